"""The bridge, a second way into an int8 file: onnxruntime's own quantiser.

The float network, its weights on their grids, is written as float32 ONNX and handed to
onnxruntime's static quantiser together with every scale that is known: those of the weights, and
those of the activations at the sites of the plan. The integers come out identical; where
onnxruntime rounds further tensors (its placement is its own), their ranges are calibrated on the
clips given. Useful to compare with, and for back ends that expect onnxruntime's placement;
`QuantizedNetwork.to_onnx` needs none of this.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from compressor.errors import QuantizeError
from compressor.extras import try_import
from compressor.methods.quant.calibrate import check_clips
from compressor.methods.quant.lower import INPUT, lower
from compressor.methods.quant.network import QuantizedNetwork

__all__ = ["quantize_with_onnxruntime"]

CLIPS = 64


def quantize_with_onnxruntime(
    network: QuantizedNetwork, path: str | Path, batches: Iterable[Tensor]
) -> Path:
    """Quantise the float twin with onnxruntime: U8S8, per channel, known scales carried over.

    Args:
        network: integers and scales; layers of fewer than 8 bits keep their integers too.
        path: where to write.
        batches: inputs for the tensors that have no range yet; up to 64 clips are used.

    Raises:
        UsageError: onnxruntime is not installed.
        QuantizeError: onnxruntime refuses the network.
        ShapeError: batches of another shape.
    """
    quantization: Any = try_import("onnxruntime.quantization")
    clips = check_clips(batches, network.example, CLIPS)
    graph = network.graph()
    plan = network.plan(graph)
    kinds = quantization.QuantType
    overrides: dict[str, list[dict[str, Any]]] = {}
    for layer, weight in network.weights.items():
        scales = weight.scale.expand(weight.values.shape[0]).numpy()
        overrides[f"{layer}.weight"] = [
            {
                "quant_type": kinds.QInt8,
                "axis": 0,
                "scale": np.array(scale, dtype=np.float32),
                "zero_point": np.array(0, dtype=np.int8),
            }
            for scale in scales
        ]
    for site in plan.sites:
        maker = site
        while graph.kind(maker) == "identity":  # a folded BatchNorm has no tensor of its own
            maker = maker.all_input_nodes[0]
        name = INPUT if graph.kind(maker) == "input" else graph.names[maker]
        grid = network.activations[graph.names[site]]
        overrides[name] = [
            {
                "quant_type": kinds.QUInt8,
                "scale": np.array(grid.scale, dtype=np.float32),
                "zero_point": np.array(grid.zero_point, dtype=np.uint8),
            }
        ]
    skipped = [
        graph.names[node]
        for layer, node in graph.weighted()
        if layer not in network.weights or node not in plan.integer
    ]
    with tempfile.TemporaryDirectory(prefix="compressor-") as folder:
        source = Path(folder) / "float.onnx"
        source.write_bytes(lower(graph).SerializeToString())
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # advice to preprocess the file, which is done already
        try:
            quantization.quantize_static(
                str(source),
                str(path),
                _reader(quantization, clips),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=kinds.QUInt8,
                weight_type=kinds.QInt8,
                nodes_to_exclude=skipped,
                extra_options={"TensorQuantOverrides": _present(overrides, source)},
            )
        except (ValueError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:300]
            raise QuantizeError(f"onnxruntime cannot quantise the network: {reason}") from error
        finally:
            root.setLevel(level)
    return Path(path)


def _present(overrides: dict[str, Any], source: Path) -> dict[str, Any]:
    """Overrides of tensors that the file has: identities have none of their own."""
    import onnx

    graph = onnx.load(source).graph
    names = {tensor.name for tensor in graph.initializer} | {INPUT}
    names |= {output for node in graph.node for output in node.output}
    return {name: entry for name, entry in overrides.items() if name in names}


def _reader(quantization: Any, clips: list[Tensor]) -> Any:
    """The clips, one batch at a time, as onnxruntime's calibration wants them."""
    batches: Iterator[Tensor] = iter(clips)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch.numpy()}

    return Reader()
