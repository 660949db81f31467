"""A network of the sweep in another number type: float16, int8 after training, int8 by training.

It starts from a finished float job of the same sweep, so that the fine-tuned network of a ratio is
made once however many types it is stored in. The work is the compression engine's, as in
`compressor cast` and `compressor quantize`; int8 accuracy is measured in onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressor.recipe import Cast, Quantize, Recipe, Step
from compressor.sweep.experiment import Experiment
from compressor.sweep.trial import OnEpoch, TrialTask, finished_record

if TYPE_CHECKING:
    from compressor.artifact import Artifact
    from compressor.data.features import Features
    from compressor.sweep.store import RunFolder

__all__ = ["quantize_settings", "quantized_point", "step_for"]

CALIBRATION_CLIPS = 256


def step_for(name: str, experiment: Experiment, teacher: str = "") -> Step:
    """The recipe step of a number type.

    Args:
        name: one of `QUANTIZERS` but "none".
        experiment: says how long int8-qat trains.
        teacher: model file of the teacher, "" for none.
    """
    if name == "fp16":
        return Cast("float16")
    if name == "int8-ptq":
        return Quantize(scheme=name, calibration_clips=CALIBRATION_CLIPS)
    return Quantize(
        scheme=name,
        calibration_clips=CALIBRATION_CLIPS,
        epochs=experiment.qat_epochs,
        teacher=teacher,
    )


def quantize_settings(experiment: Experiment, names: tuple[str, ...]) -> dict[str, Any]:
    """What decides the result of each number type, as plain JSON."""
    return {
        name: {**step_for(name, experiment).to_dict(), "teacher": experiment.teacher}
        for name in names
        if name != "none"
    }


def quantized_point(
    task: TrialTask,
    folder: RunFolder,
    features: Features,
    provenance: Mapping[str, Any],
    on_epoch: OnEpoch,
) -> tuple[Artifact, dict[str, Any]]:
    """The network of a float job in another number type: its artifact and what its record says.

    Sizes and verdicts are those of the written file: the caller counts it.

    Raises:
        MeasureError: a layer cannot be quantised, or its record is not there.
    """
    from compressor.artifact import load
    from compressor.engine import compress

    job, experiment = task.job, task.experiment
    source = job.needs[0]
    float_record = finished_record(folder, source)
    dense_id = f"f{job.fold}-s{job.seed}-dense"
    dense_record = finished_record(folder, dense_id)
    step = step_for(
        job.quantize,
        experiment,
        teacher=str(folder.model_file(dense_id)) if experiment.teacher else "",
    )
    artifact = compress(
        load(folder.model_file(source)),
        Recipe((step,), seed=job.seed),
        features,
        settings=experiment.train,
        on_epoch=on_epoch,
        command=provenance.get("command"),
    )
    entry = artifact.history[-1]
    return artifact, {
        "params_dense": dense_record["params"],
        "macs_dense": dense_record["macs"],
        "kept_channels": float_record["kept_channels"],
        "after_finetune": artifact.metrics["test"],
        "float": float_record["after_finetune"],
        "dense": dense_record["after_finetune"],
        "measured_in": entry["measured_in"],
        "sqnr_db": entry.get("sqnr_db", {}),
        "finetune_settings": step.to_dict(),
    }
