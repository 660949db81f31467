"""CPU seconds of `compressor audit` on a file of each format, beside the counters of a live module.

    python tests/benchmarks/audit_cpu.py [--repeats N] [--formats .pt,.onnx] [--networks small]

Whole processes, user + system time with all children, the least of N runs, taken in turn: the audit
of the DCASE 2024 baseline (61,148 parameters; in the project's own format the SE-ResNet that comes
with it) and of a plain ResNet-50 (25.6 million), then fvcore, ptflops, thop, torchinfo and
FlopCounterMode on the same network built live, and `import torch` alone. `.tflite` and `.h5` hold
the same convolutions and linear layers with BatchNorm folded, each on an input of its own and
nothing between them: their converters are not needed. It is a program and no test: the figures
depend on the machine and its load; compare the ratios.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from audit_networks import SHAPES, resnet50, small
from torch import Tensor, nn

HELPERS = Path(__file__).resolve().parent.parent / "audit"
# A file of the project's own format, with its graph: SE-ResNet, 54,532 parameters.
OWN = HELPERS.parent.parent / "zoo" / "weights" / "seresnet18-synthetic.pt"
FORMATS = ("compressor .pt", ".pt", ".pt2", ".onnx", ".safetensors", ".tflite", ".h5")


NETWORKS = {"small": small, "resnet50": resnet50}


def built(name: str) -> nn.Module:
    """One of the two networks, untrained."""
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


# -- one file of each format ----------------------------------------------------------------------


def helper(name: str) -> ModuleType:
    """The writers of the tests."""
    spec = importlib.util.spec_from_file_location(name, HELPERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def convolutions(model: nn.Module, shape: tuple[int, ...]) -> list[tuple[nn.Module, Any, Any]]:
    """Convolutions and linear layers in the order they run, with their input and output shapes."""
    found: list[tuple[nn.Module, Any, Any]] = []

    def note(module: nn.Module, given: Any, out: Tensor) -> None:
        found.append((module, tuple(given[0].shape), tuple(out.shape)))

    kinds = (nn.Conv2d, nn.Linear)
    hooks = [m.register_forward_hook(note) for m in model.modules() if isinstance(m, kinds)]
    with torch.no_grad():
        model(torch.randn(shape))
    for hook in hooks:
        hook.remove()
    return found


def write_safetensors(model: nn.Module, path: Path) -> None:
    """Header and raw bytes, one tensor behind the other."""
    header: dict[str, Any] = {}
    parts, at = [], 0
    for name, tensor in model.state_dict().items():
        data = tensor.numpy().tobytes()
        dtype = "I64" if tensor.dtype == torch.int64 else "F32"
        offsets = [at, at + len(data)]
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        parts.append(data)
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def write_tflite(model: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """The layers as int8 operators with int32 biases, each on an input of its own."""
    tf = helper("tflite_helpers")
    quant = {"scale": [0.5], "zero": [3]}
    tensors, ops, inputs, outputs = [], [], [], []
    for i, (layer, given, out) in enumerate(convolutions(model, shape)):
        names = [f"layer{i}/{part}" for part in ("in", "w", "b", "out")]
        weight = tuple(layer.weight.shape)
        options: dict[int, Any] = {}
        kind, shapes = "FULLY_CONNECTED", [given, out]
        if isinstance(layer, nn.Conv2d):  # NCHW -> NHWC
            shapes = [(s[0], s[2], s[3], s[1]) for s in shapes]
            depthwise = layer.groups > 1
            kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
            weight = (weight[0], *weight[2:], weight[1])
            weight = (1, *weight[1:3], weight[0]) if depthwise else weight
            # SAME padding, strides of width and height, the depth multiplier
            options = {0: ("b", 0), 1: ("i", layer.stride[1]), 2: ("i", layer.stride[0])}
            options |= {3: ("i", 1)} if depthwise else {}
        numel = layer.weight.numel()
        data = bytes(1 + i % 100 for i in range(256)) * (numel // 256 + 1)
        tensors += [
            tf.T(names[0], shapes[0], "int8", **quant),
            tf.T(names[1], weight, "int8", data[:numel], [0.1]),
            tf.T(names[2], shapes[1][-1:], "int32", [7] * shapes[1][-1], [0.01]),
            tf.T(names[3], shapes[1], "int8", **quant),
        ]
        ops.append(tf.O(kind, names[:3], names[3:], options))
        inputs.append(names[0])
        outputs.append(names[3])
    path.write_bytes(tf.model(tf.G(tensors, ops, inputs, outputs)))


def write_h5(model: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """The layers as a chain of Keras layers where they fit behind each other, weights of all."""
    keras = helper("keras_helpers")
    layers: list[Any] = []
    weights: dict[str, Any] = {}
    for i, (module, given, out) in enumerate(convolutions(model, shape)):
        name, start = f"layer_{i}", f"input_{i}"
        if isinstance(module, nn.Conv2d):
            depthwise = module.groups > 1
            batch = [None, given[2], given[3], given[1]]
            local = "depthwise_kernel" if depthwise else "kernel"
            options: dict[str, Any] = {"depth_multiplier": 1} if depthwise else {"filters": out[1]}
            options |= {"kernel_size": list(module.kernel_size), "strides": list(module.stride)}
            options |= {"padding": "same", "data_format": "channels_last"}
            kind = "DepthwiseConv2D" if depthwise else "Conv2D"
            order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
        else:
            batch, kind, local, options = [None, given[1]], "Dense", "kernel", {"units": out[1]}
            order = (1, 0)
        kernel = module.weight.detach().numpy().transpose(order)
        layers.append(keras.layer("InputLayer", start, batch_input_shape=batch))
        layers.append(keras.layer(kind, name, [start], **options))
        weights |= {start: {}, name: {local: kernel, "bias": np.ones(out[1], np.float32)}}
    names = [layer["name"] for layer in layers]
    config = keras.functional(layers, names[::2], names[1::2])
    keras.save_h5(path, weights, config)


def write_file(kind: str, name: str, path: Path) -> None:
    """Writes one of the two networks in one format."""
    model, shape = built(name), SHAPES[name]
    inputs = (torch.randn(shape),)
    if kind == "compressor .pt":
        path.write_bytes(OWN.read_bytes())
    elif kind == ".pt":
        torch.save(model.state_dict(), path)
    elif kind == ".pt2":
        torch.export.save(torch.export.export(model, inputs), path)
    elif kind == ".onnx":
        torch.onnx.export(model, inputs, path, dynamo=True, external_data=False, verbose=False)
    elif kind == ".safetensors":
        write_safetensors(model, path)
    elif kind == ".tflite":
        write_tflite(model, shape, path)
    else:
        write_h5(model, shape, path)


# -- measuring ------------------------------------------------------------------------------------

COUNTERS = {
    "fvcore": "from fvcore.nn import FlopCountAnalysis, parameter_count\n"
    "FlopCountAnalysis(model, x).total(); parameter_count(model)",
    "ptflops": "from ptflops import get_model_complexity_info\n"
    "get_model_complexity_info(model, shape[1:], as_strings=False, print_per_layer_stat=False)",
    "thop": "from thop import profile\nprofile(model, inputs=(x,), verbose=False)",
    "torchinfo": "from torchinfo import summary\nsummary(model, shape, verbose=0)",
    "FlopCounterMode": "from torch.utils.flop_counter import FlopCounterMode\n"
    "with FlopCounterMode(display=False), torch.no_grad(): model(x)",
    "compressor, live": "import compressor\ncompressor.audit(model, input_shape=shape)",
}


def script(counter: str, name: str) -> list[str]:
    """A process that builds the network and counts it; what all of them do is the same."""
    folder = str(Path(__file__).resolve().parent)
    code = (
        f"import sys; sys.path.insert(0, {folder!r})\n"
        f"import torch\nfrom audit_networks import {name}\n"
        f"shape = {SHAPES[name]}\nmodel = {name}().eval()\nx = torch.randn(shape)\n"
    )
    return [sys.executable, "-c", code + COUNTERS[counter]]


def cpu_s(command: list[str]) -> float:
    """CPU seconds of a command and its children; raises where it could not measure."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)[-200:]}: exit {done.returncode}: {done.stderr[-500:]}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def files(name: str, formats: list[str], folder: Path) -> dict[str, Path]:
    """Writes the files that are measured; ResNet-50 is no network of the zoo."""
    found = {}
    for kind in formats:
        if kind == "compressor .pt" and name != "small":
            continue
        path = folder / (kind.replace(" ", "_") + ".file")  # told by its content
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's exporters warn of themselves
            write_file(kind, name, path)
        found[kind] = path
    return found


def measured(name: str, formats: list[str], repeats: int) -> dict[str, float]:
    """Least CPU seconds of each line, the lines taken in turn."""
    with tempfile.TemporaryDirectory() as folder:
        paths = files(name, formats, Path(folder))
        audit = [sys.executable, "-m", "compressor", "audit"]
        commands = {"import torch": [sys.executable, "-c", "import torch"]}
        commands |= {f"audit of {kind}": [*audit, str(path)] for kind, path in paths.items()}
        commands |= {counter: script(counter, name) for counter in COUNTERS}
        least: dict[str, float] = {}
        for turn in range(repeats):
            for line, command in commands.items():
                seconds = cpu_s(command)
                least[line] = min(least.get(line, seconds), seconds)
            print(f"{name}: turn {turn + 1} of {repeats}", file=sys.stderr)
        return least


def main() -> None:
    """Measure both networks and print seconds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--formats", help="some of these, comma between: " + ", ".join(FORMATS))
    parser.add_argument("--networks", default=",".join(NETWORKS))
    options = parser.parse_args()
    formats = options.formats.split(",") if options.formats else list(FORMATS)
    networks = options.networks.split(",")
    if options.repeats < 1 or not set(formats) <= set(FORMATS) or not set(networks) <= {*NETWORKS}:
        parser.error(
            f"formats: {', '.join(FORMATS)}; networks: {', '.join(NETWORKS)}; repeats >= 1"
        )
    found = {name: measured(name, formats, options.repeats) for name in networks}
    print(
        f"CPU s, whole process, least of {options.repeats}; torch {torch.__version__}, "
        f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} at the end\n"
    )
    titles = [f"{name}{tail}" for name in found for tail in (", CPU s", ", / import torch")]
    print("| | " + " | ".join(titles) + " |\n|---|" + "---:|" * len(titles))
    for line in dict.fromkeys(line for times in found.values() for line in times):
        cells = []
        for times in found.values():
            seconds = times.get(line)
            base = times["import torch"]
            cells += ["–", "–"] if seconds is None else [f"{seconds:.2f}", f"{seconds / base:.2f}"]
        print(f"| {line} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
