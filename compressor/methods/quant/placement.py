"""Which operators should run on integers here: measured in onnxruntime, never assumed.

Integer kernels win where products dominate and lose where small operators do: onnxruntime has
float32 kernels for depthwise convolutions, poolings and gates that its integer ones do not match.
A layer that computes in float32 keeps its integer weights in the file, so the bytes stay the same;
onnxruntime turns them into floats once, when it loads the file. The slowest that a network can then
be is as slow as its float32 form.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from compressor.errors import ConfigError
from compressor.extras import try_import
from compressor.methods.dataflow import trace
from compressor.methods.quant.config import StaticInt8
from compressor.methods.quant.lower import INPUT, lower
from compressor.methods.quant.network import QuantizedNetwork
from compressor.methods.quant.static import quantize_static

__all__ = ["Placement", "choose_placement", "latencies_ms"]

GAIN = 0.97  # another placement must be this much faster than the one before it in the list

ROUND_S = 0.005  # a file's share of a round
CLOCK_TICK_S = 1e-6  # Windows counts CPU time in steps of 16 ms: of no use here


@dataclass(frozen=True)
class Placement:
    """The fastest of a few placements.

    Attributes:
        name: "integers", "layers on integers", "first layer in float", "first block in float" or
            "float arithmetic".
        float_compute: layers to set as `float_compute`.
        integer_operators: operators to set as `integer_operators`.
        latency_ms: smallest latency of each placement that was tried, and of "float32": what the
            choice was made on.
        confirmed_ms: of the chosen one and of "float32", timed again after the choice. The fastest
            of several noisy figures is fast by luck in part, so these are the ones to report.
    """

    name: str
    float_compute: tuple[str, ...]
    integer_operators: tuple[str, ...]
    latency_ms: Mapping[str, float]
    confirmed_ms: Mapping[str, float]

    @property
    def speedup(self) -> float:
        """float32 latency over the chosen one's, from the timing after the choice."""
        return self.confirmed_ms["float32"] / self.confirmed_ms[self.name]

    def apply(self, config: Any) -> Any:
        """`config` (StaticInt8 or QatInt8) with this placement."""
        return replace(
            config, float_compute=self.float_compute, integer_operators=self.integer_operators
        )


def choose_placement(
    model: nn.Module,
    example: Tensor,
    batches: Iterable[Tensor],
    config: StaticInt8 | None = None,
    *,
    rounds: int = 30,
) -> Placement:
    """Quantise `model` in a few placements and time each beside float32, batch 1, one thread.

    Times are CPU time of the thread, so that other work on the machine lengthens them little.

    For QAT choose before training: the placement decides where values are rounded.

    Args:
        model: float network; left as it is.
        example: (N, ...) an input.
        batches: calibration clips; the numbers do not matter for the time, a few are enough.
        config: settings to start from; its `float_compute` stays in every placement.
        rounds: runs of each form, in turns so that a busy moment meets all of them.

    Raises:
        UsageError: onnxruntime is not installed.
        ConfigError: `rounds` below 1.
        QuantizeError, ShapeError: as `quantize_static`.
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}, but must be at least 1")
    config = StaticInt8() if config is None else config
    clips = list(batches)
    base = quantize_static(model, example, clips, config)
    order = list(base.weights)
    kept = config.float_compute
    tried: dict[str, StaticInt8] = {
        "integers": config,
        "layers on integers": replace(config, integer_operators=()),
        "first layer in float": replace(config, float_compute=(*kept, order[0])),
        **_first_block(config, order),
        "float arithmetic": replace(config, float_compute=tuple(order), integer_operators=()),
    }
    networks: dict[str, QuantizedNetwork] = {"integers": base}
    for name, one in tried.items():
        if name not in networks:
            networks[name] = quantize_static(model, example, clips, one)
    files = {name: network.to_onnx() for name, network in networks.items()}
    files["float32"] = lower(trace(base.model, example[:1])).SerializeToString()
    found = latencies_ms(list(files.values()), example[:1], rounds=rounds)
    latency = dict(zip(files, found, strict=True))
    # float arithmetic runs the operators of the float32 form: two figures of one thing
    figures = {**latency, "float arithmetic": min(latency["float arithmetic"], latency["float32"])}
    best = "integers"
    for name in tried:
        if figures[name] < GAIN * figures[best]:
            best = name
    chosen = tried[best]
    pair = (best, "float32")
    again = latencies_ms([files[name] for name in pair], example[:1], rounds=rounds)
    confirmed = dict(zip(pair, again, strict=True))
    return Placement(best, chosen.float_compute, chosen.integer_operators, latency, confirmed)


def _first_block(config: StaticInt8, order: Sequence[str]) -> dict[str, StaticInt8]:
    """The block of the first layer in float, where it holds more layers and is not all."""
    block = ".".join(order[0].split(".")[:2])
    below = [name for name in order if name.startswith(f"{block}.")]
    if not 1 < len(below) < len(order):
        return {}
    return {"first block in float": replace(config, float_compute=(*config.float_compute, block))}


def latencies_ms(files: Sequence[bytes], x: Tensor, *, rounds: int) -> list[float]:
    """CPU time of one run of each ONNX file in ms: one thread, files in turns, the best round.

    Raises:
        UsageError: onnxruntime is not installed.
    """
    onnxruntime: Any = try_import("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    sessions = [
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for content in files
    ]
    inputs = {INPUT: np.ascontiguousarray(x.numpy(), dtype=np.float32)}
    best = [float("inf")] * len(sessions)
    exact = time.get_clock_info("thread_time").resolution <= CLOCK_TICK_S
    clock = time.thread_time if exact else time.perf_counter
    for _ in range(rounds):
        for index, session in enumerate(sessions):
            session.run(None, inputs)  # clears the caches of what ran before: up to 10 %
            runs, start = 0, clock()
            while runs == 0 or clock() - start < ROUND_S:  # single short runs scatter widely
                session.run(None, inputs)
                runs += 1
            best[index] = min(best[index], (clock() - start) / runs)
    return [1e3 * seconds for seconds in best]
