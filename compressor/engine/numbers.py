"""Steps that fix the stored numbers, and the one that writes the network for other programs."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from compressor.artifact import from_quantized
from compressor.engine.workspace import (
    Made,
    Workspace,
    masks_for,
    settings_for,
    train_on,
)
from compressor.errors import UsageError
from compressor.methods.magnitude import Masks
from compressor.methods.surgery import check_finite
from compressor.recipe import Cast, Export, Quantize
from compressor.training.loop import count_steps

if TYPE_CHECKING:
    from compressor.methods.quant import QatInt8, QuantizedNetwork

__all__ = ["run_cast", "run_export", "run_quantize"]

_TYPE_CLIPS = 256  # half-precision arithmetic is many times slower on most processors


def run_cast(step: Cast, work: Workspace) -> Made:
    """Round the weights to two bytes; with clips, compare arithmetic in the type as well."""
    from compressor.methods.cast import cast as to_type

    result = to_type(work.artifact.build(), cast(Any, step.dtype))
    facts: dict[str, Any] = {"dtype": step.dtype, "largest_error": result.largest_error}
    notes = []
    for name, words in (
        ("overflowed", "beyond the largest finite number: held as that"),
        ("subnormal", "below the smallest normal number: held with fewer digits"),
        ("flushed", "too small: became zero"),
    ):
        reports = getattr(result, name)
        facts[name] = [dataclasses.asdict(report) for report in reports]
        if reports:
            first = max(reports, key=lambda report: report.values)
            count = sum(report.values for report in reports)
            notes.append(f"{count} numbers {words} in {step.dtype} (most in {first.name!r})")
    if work.data is not None:
        facts["arithmetic"] = _in_type(result.in_type(), result.model, step.dtype, work)
    return Made(result.model, dtype=step.dtype, facts=facts, notes=tuple(notes))


class _InType(nn.Module):
    """Runs a network in another number type; inputs and outputs are float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = model
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.model(x.to(self.dtype))
        return outputs.float()


def _in_type(half: nn.Module, single: nn.Module, dtype: str, work: Workspace) -> dict[str, Any]:
    """Accuracy of arithmetic in the type beside float32 arithmetic on the same rounded weights."""
    from compressor.training import evaluate

    data = work.clips("cast")
    part = data.test.subset(range(min(len(data.test), _TYPE_CLIPS)))
    accuracy = {
        name: evaluate(
            network,
            part,
            standardizer=data.standardizer,
            layout=work.artifact.layout,
            device=work.device,
        ).accuracy
        for name, network in (
            (dtype, _InType(half, getattr(torch, dtype))),
            ("float32", single),
        )
    }
    return {"clips": len(part), "accuracy": accuracy}


def run_quantize(step: Quantize, work: Workspace) -> Made:
    """Make weights and activations integers, after training or by training for it."""
    from compressor.methods.quant import QatInt8, StaticInt8, quantize_static

    model = work.artifact.build()
    check_finite(model)
    common: dict[str, Any] = {
        "weight_bits": step.weight_bits,
        "per_channel": step.per_channel,
        "calibration_clips": step.calibration_clips,
        "calibration": step.calibration,
        "percentile": step.percentile,
        "keep_float": step.keep_float,
        "float_compute": step.float_compute,
        "rescale": step.rescale,
        "mixed": step.mixed,
    }
    inputs = list(work.inputs("quantize", step.calibration_clips))
    facts: dict[str, Any] = {
        "scheme": step.scheme,
        "calibrated_on": sum(len(batch) for batch in inputs),
    }
    if step.placement == "fastest":
        common |= _fastest(model, work, inputs, common, facts)
    if step.scheme == "int8-ptq":
        static = StaticInt8(
            **cast(Any, common), bias_correction=step.bias_correction, equalize=step.equalize
        )
        quantized = quantize_static(model, work.example, inputs, static)
    else:
        qat = QatInt8(
            **cast(Any, common), engine=cast(Any, step.engine), freeze_after=step.freeze_after
        )
        quantized, trained = _trained(step, work, model, qat, inputs=inputs)
        facts |= trained
    facts["sqnr_db"] = dict(quantized.sqnr)
    facts["scale_bytes"] = _scale_bytes(quantized)
    notes: tuple[str, ...] = ()
    if "placement" in facts:
        placed = facts["placement"]
        notes = (
            f"placement: {placed['chosen']}, {placed['speedup']:.2f} times as fast as float32 in "
            "onnxruntime (CPU time, one thread, batch 1)",
        )
    return Made(artifact=from_quantized(quantized, work.artifact), facts=facts, notes=notes)


def _scale_bytes(network: QuantizedNetwork) -> int:
    """Bytes of scales and zero points as the audit lists them for the exported file."""
    from compressor.audit import audit

    with tempfile.TemporaryDirectory(prefix="compressor-") as folder:
        path = Path(folder) / "step.onnx"
        network.to_onnx(path)
        return audit(path).scale_bytes


def _fastest(
    model: nn.Module,
    work: Workspace,
    inputs: list[Tensor],
    common: dict[str, Any],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Settings of the placement that onnxruntime runs fastest here; what was timed into `facts`."""
    from compressor.methods.quant import StaticInt8
    from compressor.methods.quant.placement import choose_placement

    config = StaticInt8(**cast(Any, common))
    found = choose_placement(model, work.example, inputs[:1], config)
    facts["placement"] = {
        "chosen": found.name,
        "cpu_ms": dict(found.latency_ms),
        "cpu_ms_again": dict(found.confirmed_ms),
        "speedup": found.speedup,
    }
    return {
        "float_compute": found.float_compute,
        "integer_operators": found.integer_operators,
    }


def _trained(
    step: Quantize, work: Workspace, model: nn.Module, config: QatInt8, *, inputs: list[Tensor]
) -> tuple[QuantizedNetwork, dict[str, Any]]:
    """Train with the rounding in place; zeros that were pruned stay zeros."""
    from compressor.methods.quant import finish_qat, prepare_qat

    settings = settings_for(work, step.epochs, step.settings)
    # bfloat16 has no more bits than the integers: their grid would be lost in its rounding
    settings = dataclasses.replace(settings, precision="float32")
    steps = count_steps(work.clips("quantize").train, settings)
    prepared = prepare_qat(model, work.example, config, batches=inputs, steps=steps)
    masks = masks_for(work, model)
    if masks is not None:
        masks = _renamed(masks, prepared)
    facts = train_on(prepared, work, step, settings, masks)
    return finish_qat(prepared, work.example, inputs), facts


def _renamed(masks: Masks, prepared: nn.Module) -> Masks:
    """Masks under the names that weights have while they are trained for integers."""
    names = [name for name, _ in prepared.named_parameters()]
    found = {}
    for name, mask in masks.items():
        now = [n for n in names if n == name or n.endswith(f".{name}")]
        if now:  # a layer that was folded away has no weights to hold
            found[min(now, key=len)] = mask
    return found


def run_export(step: Export, work: Workspace) -> Made:
    """Write the network in another program's format; the artifact stays as it is."""
    from compressor.export import TARGETS, export

    if step.path:
        path = Path(step.path)
    elif work.out is not None:
        path = work.out.with_suffix(TARGETS.get(step.to, f".{step.to}"))
    else:
        raise UsageError("step export needs a path, or a result file to stand beside")
    report = export(work.artifact, path, to=step.to)
    return Made(
        artifact=work.artifact,
        facts={"to": step.to, "path": str(path), "report": report.to_dict()},
    )
