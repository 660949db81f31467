"""A package skeleton: the meta.yaml of a year, with what an audit can fill in filled in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from compressor.audit.submission.declared import FIELDS, measured
from compressor.audit.submission.forms import TODO, Form

if TYPE_CHECKING:
    from compressor.audit.records import AuditResult

__all__ = ["header_row", "meta_text"]

_COMMENTS = {
    "total_parameters": "all parameters, zeros included; an ensemble adds up",
    "total_parameters_non_zero": "those that are not zero",
    "model_size": "KB (1,024 B) of the non-zero parameters",
    "memory_use": "bytes of the parameters at their stored width",
    "total_model_size": "bytes of the parameters at their stored width",
    "macs": "multiply-accumulates of one inference, as the official counter reads them",
}
_DESCRIPTION = {
    "input_sampling_rate": "such as 32kHz",
    "acoustic_features": "such as log-mel energies",
    "embeddings": "pre-trained features, !!null for none",
    "data_augmentation": "such as mixup, frequency masking; !!null for none",
    "machine_learning_method": "such as CNN",
    "ensemble_method_subsystem_count": "how many networks are averaged, !!null for one",
    "decision_making": "such as average; !!null for one network",
    "external_data_usage": "such as pre-trained model; !!null for none",
    "complexity_management": "such as pruning, weight quantization",
    "pipeline": "such as training, pruning, fine-tuning, weight quantization",
    "framework": "such as pytorch",
    "split_adaptations": "what differs between the splits, !!null for nothing",
    "system_adaptations": "what differs between the systems of the team, !!null for nothing",
}
_NULL = {"embeddings", "ensemble_method_subsystem_count", "decision_making"}


def header_row(form: Form) -> str:
    """The first line of an output file."""
    return "\t".join(form.header) + "\n"


def meta_text(label: str, form: Form, result: AuditResult | None = None) -> str:
    """Writes the meta.yaml of a year.

    Args:
        label: of the system.
        form: of the year.
        result: the audit of its model; None leaves its figures to be written.

    Returns:
        YAML; what must be written by hand holds TODO, which the gate reports with its line.
    """
    return "\n".join(_lines(label, form, result)) + "\n"


def _lines(label: str, form: Form, result: AuditResult | None) -> Iterator[str]:
    lastname, institute = label.split("_")[:2]
    yield f"# Submission to DCASE {form.year} Task 1. Fields that hold TODO are to be written by"
    yield "# hand; compressor gate lists those that are left. !!null means: does not apply."
    yield "submission:"
    yield f"  label: {label}"
    yield f"  name: {TODO}"
    yield f"  abbreviation: {TODO}  # at most 10 characters"
    yield "  authors:  # in their order; exactly one is corresponding"
    yield f"    - lastname: {lastname}"
    yield f"      firstname: {TODO}"
    yield f"      email: {TODO}"
    yield "      corresponding: true"
    yield "      affiliation:"
    yield f"        abbreviation: {institute}"
    yield f"        institute: {TODO}"
    yield "        department: !!null  # optional"
    yield f"        location: {TODO}"
    yield ""
    yield "system:"
    yield "  description:"
    for key in form.description:
        value = "!!null" if key in _NULL else TODO
        yield f"    {key}: {value}  # {_DESCRIPTION[key]}"
    yield ""
    yield "  complexity:"
    keys = [key for key in FIELDS if key in form.complexity]
    if form.year == 2021:  # its template asks for more than its checker
        keys = ["total_parameters", "total_parameters_non_zero", "model_size"]
    for key in keys:
        yield f"    {key}: {_figure(key, form, result)}  # {_COMMENTS[key]}"
    if form.energy:
        yield ""
        yield "  energy_consumption:  # kWh"
        for key in form.energy:
            yield f"    {key}: {TODO}"
    yield ""
    yield "  external_datasets: !!null  # or a list: - name: ..., url: ..., total_audio_length: ..."
    yield "  source_code: !!null  # URL, optional"
    yield ""
    yield "results:"
    yield "  development_dataset:"
    for split in form.splits:
        yield f"    {split}:"
        yield from _scores(form, "      ")
    if not form.splits:
        yield from _scores(form, "    ")


def _figure(key: str, form: Form, result: AuditResult | None) -> str:
    """A measured figure under the year's official way to count."""
    if result is None:
        return TODO
    found = measured([result], FIELDS[key], form.year, total=True)
    value = next(iter(found.readings.values()), None)
    if value is None:
        return TODO
    return f"{value / 1024:.2f}" if key == "model_size" else str(value)


def _scores(form: Form, indent: str) -> Iterator[str]:
    yield f"{indent}overall:"
    yield f"{indent}  accuracy: {TODO}  # mean of class-wise accuracies, in %"
    yield f"{indent}  logloss: {TODO}"
    for group, names in (("class_wise", form.classes), ("device_wise", form.devices)):
        if names:
            yield f"{indent}{group}:  # null where it was not measured"
        for name in names:
            yield f"{indent}  {name}: {{accuracy: null, logloss: null}}"
