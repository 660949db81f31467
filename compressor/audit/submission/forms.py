"""What a package must hold, by year: the organisers' own checkers, their templates and task pages.

2020 is Task 1B, 2021 Task 1A, later years Task 1. For 2025 no checker could be read: its form is
that of 2024 with one output file (evidence I), which `Form.evidence` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compressor.errors import UnknownNameError

__all__ = ["FORMS", "TODO", "Form", "form_for"]

TODO = "TODO"  # what the skeleton leaves to be written; the gate finds it

_THREE = ("indoor", "outdoor", "transportation")
_TEN = (
    *("airport", "bus", "metro", "metro_station", "park", "public_square", "shopping_mall"),
    *("street_pedestrian", "street_traffic", "tram"),
)
_DEVICES = ("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6")
_SPLITS = (5, 10, 25, 50, 100)

# system.description: what the checkers of 2020 to 2023 ask for, and what was added later
_DESCRIPTION = (
    *("input_sampling_rate", "acoustic_features", "embeddings", "data_augmentation"),
    *("machine_learning_method", "ensemble_method_subsystem_count", "decision_making"),
    "external_data_usage",
)
_DESCRIPTION_2024 = (
    *("input_sampling_rate", "acoustic_features", "data_augmentation", "machine_learning_method"),
    *("external_data_usage", "complexity_management", "pipeline", "framework"),
)


@dataclass(frozen=True, slots=True)
class Form:
    """The form of one year's package.

    Attributes:
        year: challenge year; task: third part of the label; evidence: V, S, I or N.
        classes: class columns of the output file, in their order.
        rows: recordings in the evaluation set: the output holds `0.wav` to `<rows - 1>.wav`.
        outputs: ends of the output files' names, after `<label>.`.
        complexity: required fields of `system.complexity`.
        description: required fields of `system.description` (a value may be null).
        energy: required fields of `system.energy_consumption`, in kWh; empty where none is asked.
        splits: parts of `results.development_dataset`; empty where the results stand in it.
        devices: required keys of `device_wise`; empty where devices are not asked for.
    """

    year: int
    task: str
    classes: tuple[str, ...]
    rows: int
    complexity: tuple[str, ...]
    description: tuple[str, ...]
    outputs: tuple[str, ...] = ("output.csv",)
    energy: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    devices: tuple[str, ...] = _DEVICES
    evidence: str = "V"

    @property
    def header(self) -> tuple[str, ...]:
        """Columns of the output file."""
        return ("filename", "scene_label", *self.classes)


FORMS: Mapping[int, Form] = {
    2020: Form(
        year=2020,
        task="task1b",
        classes=_THREE,
        rows=8_640,
        complexity=("total_parameters", "total_parameters_non_zero", "model_size"),
        description=(*_DESCRIPTION, "complexity_management"),
        devices=(),
    ),
    2021: Form(
        year=2021,
        task="task1a",
        classes=_TEN,
        rows=7_920,
        complexity=("total_parameters",),
        description=_DESCRIPTION,
    ),
    2022: Form(
        year=2022,
        task="task1",
        classes=_TEN,
        rows=118_800,
        complexity=("total_parameters", "total_parameters_non_zero", "memory_use", "macs"),
        description=_DESCRIPTION,
    ),
    2023: Form(
        year=2023,
        task="task1",
        classes=_TEN,
        rows=118_800,
        complexity=(
            *("total_model_size", "total_parameters", "total_parameters_non_zero"),
            *("memory_use", "macs"),
        ),
        description=(*_DESCRIPTION, "complexity_management", "pipeline", "framework"),
        energy=("training", "inference", "baseline_inference"),
    ),
    2024: Form(
        year=2024,
        task="task1",
        classes=_TEN,
        rows=135_730,
        complexity=("total_model_size", "total_parameters", "macs"),
        description=(*_DESCRIPTION_2024, "split_adaptations", "system_adaptations"),
        outputs=tuple(f"output.split_{split}.csv" for split in _SPLITS),
        splits=tuple(f"split_{split}" for split in _SPLITS),
    ),
    2025: Form(
        year=2025,
        task="task1",
        classes=_TEN,
        rows=178_930,
        complexity=("total_model_size", "total_parameters", "macs"),
        description=_DESCRIPTION_2024,
        evidence="I",
    ),
}


def form_for(year: int) -> Form:
    """Returns the form of a year.

    Raises:
        UnknownNameError: no package form is known for that year.
    """
    if year not in FORMS:
        raise UnknownNameError("challenge year", str(year), map(str, FORMS))
    return FORMS[year]
