"""What int8 costs and gains on this CPU: a QAT step, and inference in onnxruntime. Prints ratios.

    python tests/benchmarks/int8_cpu.py [NETWORK ...] [--openvino | --qat [--brevitas]]

Every network is run at its published input size with random weights: times do not depend on what it
has learned. `--openvino` runs all integers in OpenVINO, beside float32 there and in onnxruntime.
`--qat` times one training step of 16 clips with rounding in place over a float step.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from compressor.runtime import tune

tune(threads=1)

import torch  # noqa: E402 - after the threads are set
from torch import Tensor, nn  # noqa: E402

import zoo  # noqa: E402
from compressor.methods.batchnorm import reestimate  # noqa: E402
from compressor.methods.dataflow import trace  # noqa: E402
from compressor.methods.quant import QatInt8, prepare_qat, quantize_static  # noqa: E402
from compressor.methods.quant.lower import lower  # noqa: E402
from compressor.methods.quant.placement import choose_placement  # noqa: E402


def network(name: str, clips: int) -> tuple[nn.Module, Tensor]:
    """A network with statistics of its inputs, and inputs (clips, ...)."""
    torch.manual_seed(0)
    model = zoo.build(name).eval()
    x = torch.randn(clips, *zoo.entry(name).input_shape)
    reestimate(model, [x[:2]])
    return model, x


def step_times(nets: Mapping[str, nn.Module], x: Tensor, rounds: int = 8) -> dict[str, float]:
    """Smallest CPU seconds of one training step of each network, steps taken in turns."""
    y = torch.zeros(len(x), dtype=torch.int64)
    optimizers = {
        name: torch.optim.AdamW(net.parameters(), 1e-4, fused=True) for name, net in nets.items()
    }
    best = dict.fromkeys(nets, math.inf)
    for _ in range(rounds):
        for name, net in nets.items():
            start = time.process_time()
            loss = nn.functional.cross_entropy(net(x), y)
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
            best[name] = min(best[name], time.process_time() - start)
    return best


def openvino_times(model: nn.Module, x: Tensor, rounds: int = 9) -> dict[str, float]:
    """Median CPU ms of one run of each form, runs taken in turns; one thread."""
    from compressor.deploy.bench import open_network

    quantized = quantize_static(model, x, [x])
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        forms = {"int8": quantized.to_onnx()}
        forms["float32"] = lower(trace(quantized.model, x[:1])).SerializeToString()
        for key, content in forms.items():
            (Path(folder) / f"{key}.onnx").write_bytes(content)
        networks = {
            (key, backend): open_network(Path(folder) / f"{key}.onnx", backend)
            for key, backend in (
                ("int8", "openvino"),
                ("float32", "openvino"),
                ("float32", "onnxruntime"),
            )
        }
        single = x[:1].numpy()
        for _ in range(rounds):
            for (key, backend), net in networks.items():
                net.run(single)
                runs, start = 0, time.process_time()
                while runs == 0 or time.process_time() - start < 0.005:
                    net.run(single)
                    runs += 1
                spent = 1e3 * (time.process_time() - start) / runs
                times.setdefault(f"{backend} {key}", []).append(spent)
    return {key: statistics.median(found) for key, found in times.items()}


def main() -> int:
    """Print one line a network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=zoo.list_models())
    parser.add_argument("--qat", action="store_true", help="time training steps instead")
    parser.add_argument("--openvino", action="store_true", help="run in that back end")
    parser.add_argument("--brevitas", action="store_true", help="with --qat: that engine too")
    given = parser.parse_args()
    logs = []
    for name in given.networks:
        model, x = network(name, 16 if given.qat else 2)
        if given.openvino:
            found_ms = openvino_times(model, x)
            int8 = found_ms["openvino int8"]
            ratios = {key: value / int8 for key, value in found_ms.items()}
            print(
                f"{name}: int8 {int8:.2f} ms, {ratios['openvino float32']:.2f}x float32 in "
                f"OpenVINO, {ratios['onnxruntime float32']:.2f}x float32 in onnxruntime",
                flush=True,
            )
            logs.append(math.log(ratios["openvino float32"]))
        elif given.qat:
            nets = {"float": model.train(), "light": prepare_qat(model, x, steps=1000)}
            if given.brevitas:
                nets["brevitas"] = prepare_qat(model, x, QatInt8(engine="brevitas"), steps=1000)
            best = step_times(nets, x)
            ratios = {key: best[key] / best["float"] for key in best}
            print(
                name, "  ".join(f"{key} {value:.2f}" for key, value in ratios.items()), flush=True
            )
            logs.append(math.log(ratios["light"]))
        else:
            found = choose_placement(model, x, [x], rounds=20)
            every = "  ".join(f"{key} {value:.2f} ms" for key, value in found.latency_ms.items())
            print(f"{name}: {found.name}, {found.speedup:.2f}x ({every})", flush=True)
            logs.append(math.log(found.speedup))
    what = "light QAT step over float step" if given.qat else "float32 over int8 latency"
    print(f"geometric mean, {what}: {math.exp(sum(logs) / len(logs)):.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
