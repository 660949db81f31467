"""Every check of the gate by its id: what it is about and how much it weighs by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["CHECKS", "LEVELS", "CheckInfo", "Level", "limit_check"]

Level = Literal["off", "warn", "error"]
LEVELS: tuple[Level, ...] = get_args(Level)


@dataclass(frozen=True, slots=True)
class CheckInfo:
    """A check's title in words and its default level."""

    title: str
    level: Level = "error"


CHECKS: Mapping[str, CheckInfo] = {
    # the model
    "model-file": CheckInfo("the model file can be read"),
    "measurement": CheckInfo("every figure that is compared was measured exactly"),
    "limit-bytes": CheckInfo("size within the year's limit"),
    "limit-params": CheckInfo("parameters within the year's limit"),
    "limit-macs": CheckInfo("MACs within the year's limit"),
    "limit-memory": CheckInfo("activation memory within the limit"),
    "limit-type": CheckInfo("number type as the year's rules fix it"),
    "limit-depends": CheckInfo("the verdict is the same under every reading of the rules"),
    "own-limit": CheckInfo("figures within the limits of the configuration"),
    "accuracy": CheckInfo("accuracy at or above the floor"),
    "growth": CheckInfo("growth against the base model"),
    # the package
    "package-layout": CheckInfo("files stand where the organisers expect them"),
    "package-extra": CheckInfo("nothing stands in the package that does not belong there", "warn"),
    "label": CheckInfo("labels have the form Lastname_INST_task1_1"),
    "systems-count": CheckInfo("at most four systems a team"),
    "file-names": CheckInfo("files are named after their label"),
    "model-missing": CheckInfo("the package's model is there to be measured"),
    # meta.yaml
    "meta-yaml": CheckInfo("meta.yaml is valid YAML"),
    "meta-fields": CheckInfo("meta.yaml has the fields of its year"),
    "meta-todo": CheckInfo("no field is left to be written"),
    "meta-label": CheckInfo("the label in meta.yaml is that of the folder"),
    "meta-authors": CheckInfo("authors are complete, exactly one is corresponding"),
    "meta-abbreviation": CheckInfo("the abbreviation has at most 10 characters"),
    "meta-complexity": CheckInfo("the complexity fields of the year are there and are numbers"),
    "meta-energy": CheckInfo("energy consumption is given in kWh"),
    "meta-results": CheckInfo("results on the development set have the fields of the year"),
    "declared": CheckInfo("what meta.yaml declares is what was measured"),
    "declared-limit": CheckInfo("what meta.yaml declares is within the year's limits"),
    "declared-reading": CheckInfo(
        "declared figures follow the year's official way to count", "warn"
    ),
    # the output file
    "output-format": CheckInfo("the output file is a tab-separated table"),
    "output-header": CheckInfo("the output file has the header of its year"),
    "output-rows": CheckInfo("one row for each recording of the evaluation set"),
    "output-names": CheckInfo("file names are 0.wav to N-1.wav, each once"),
    "output-labels": CheckInfo("predicted labels are in the list"),
    "output-probabilities": CheckInfo("probabilities are finite and sum to 1"),
    "output-argmax": CheckInfo("the predicted label has the highest probability"),
    # the gate itself
    "waiver-unused": CheckInfo("every waiver is still needed", "warn"),
}

_LIMITS: Mapping[str, str] = {
    "param_bytes": "limit-bytes",
    "nonzero_bytes": "limit-bytes",
    "params": "limit-params",
    "nonzero_params": "limit-params",
    "macs": "limit-macs",
    "peak_activation_bytes": "limit-memory",
    "number_type": "limit-type",
}


def limit_check(metric: str) -> str:
    """Returns the id of the check that compares a metric of the rules."""
    return _LIMITS.get(metric, "limit-bytes")
