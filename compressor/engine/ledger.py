"""What a step did, as it goes into the artifact's history; and which finished steps can be reused.

Every step's record has the audit of the file as it was and as it is now, the accuracy before and
after where clips were given, and the time it took. Kept steps (`Keeper`) are model files beside the
result; a key over everything that decides a step's result says whether one still counts.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import ArtifactError

if TYPE_CHECKING:
    from compressor.artifact import Artifact

__all__ = ["Keeper", "StepRecord", "audit_artifact", "rules_effect", "step_key"]


@dataclass(frozen=True)
class StepRecord:
    """One finished step.

    Attributes:
        index: place in the recipe, from 1; count: steps of the recipe.
        kind: of the step.
        settings: the step as the recipe has it, `Step.to_dict`.
        facts: what the step found, by kind.
        audit_before: figures of the file before the step; audit_after: after it.
        accuracy_before: results on the test part before the step, None without data.
        accuracy_after: the same after it.
        measured_in: what ran the network for `accuracy_after`.
        seconds: wall time of the step, measuring left out; cpu_seconds: of this process.
        notes: what a reader must know.
        key: says what the result depends on; see `step_key`.
        resumed: the step was not run but read from a kept file.
    """

    index: int
    count: int
    kind: str
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]
    audit_before: Mapping[str, Any]
    audit_after: Mapping[str, Any]
    accuracy_before: Mapping[str, float] | None
    accuracy_after: Mapping[str, float] | None
    measured_in: str
    seconds: float
    cpu_seconds: float
    notes: tuple[str, ...] = ()
    key: str = ""
    resumed: bool = field(default=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The entry of the artifact's history."""
        return {
            **self.facts,
            "step": self.kind,
            "recipe": dict(self.settings),
            "place": [self.index, self.count],
            "audit": {"before": dict(self.audit_before), "after": dict(self.audit_after)},
            "accuracy": {
                "before": None if self.accuracy_before is None else dict(self.accuracy_before),
                "after": None if self.accuracy_after is None else dict(self.accuracy_after),
            },
            "measured_in": self.measured_in,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "notes": list(self.notes),
            "key": self.key,
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> StepRecord:
        """The record that `to_dict` wrote, marked as read back."""
        own = {
            "step", "recipe", "place", "audit", "accuracy", "measured_in", "seconds",
            "cpu_seconds", "notes", "key",
        }  # fmt: skip
        return cls(
            index=entry["place"][0],
            count=entry["place"][1],
            kind=entry["step"],
            settings=entry["recipe"],
            facts={key: value for key, value in entry.items() if key not in own},
            audit_before=entry["audit"]["before"],
            audit_after=entry["audit"]["after"],
            accuracy_before=entry["accuracy"]["before"],
            accuracy_after=entry["accuracy"]["after"],
            measured_in=entry["measured_in"],
            seconds=entry["seconds"],
            cpu_seconds=entry["cpu_seconds"],
            notes=tuple(entry["notes"]),
            key=entry["key"],
            resumed=True,
        )


def audit_artifact(artifact: Artifact) -> dict[str, Any]:
    """Figures of an artifact as `compressor audit` finds them in its file.

    Returns:
        params, nonzero_params, param_bytes, bytes_by_dtype, macs (strict), macs_official,
        peak_activation_bytes, nonzero_bytes by convention, and the status of the counting.
    """
    from compressor.artifact import save
    from compressor.audit import audit

    with tempfile.TemporaryDirectory(prefix="compressor-") as folder:
        path = Path(folder) / "step.pt"
        save(artifact, path)
        result = audit(path)
    return {
        "params": result.params,
        "nonzero_params": result.nonzero_params,
        "param_bytes": result.param_bytes,
        "bytes_by_dtype": dict(result.bytes_by_dtype),
        "macs": result.macs_by_convention["strict"],
        "macs_official": result.macs_by_convention["nessi"],
        "peak_activation_bytes": result.peak_activation_bytes,
        "nonzero_bytes": dict(result.bytes_by_convention),
        "status": result.status,
    }


def rules_effect(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """What each year's size limit makes of a step: which figure it counts, before and after.

    Args:
        before: figures of `audit_artifact` before the step.
        after: the same after it.

    Returns:
        Year -> one line, such as "counts non-zero bytes: 218,128 -> 66,012".
    """
    from compressor.audit.rules import rules_for, years

    words = {
        "nonzero_bytes": "non-zero parameters only, in bytes",
        "params": "all parameters",
        "param_bytes": "all parameters, in bytes",
        "nonzero_params": "non-zero parameters only",
    }
    lines = {}
    for year in years():
        for limit in rules_for(year).limits:
            if limit.metric not in words:
                continue
            old, new = (
                figures["nonzero_bytes"][limit.convention]
                if limit.metric == "nonzero_bytes"
                else figures[limit.metric]
                for figures in (before, after)
            )
            change = "unchanged" if old == new else f"was {old:,}"
            lines[str(year)] = f"counts {words[limit.metric]}: {new:,} ({change})"
    return lines


def step_key(previous: str, step: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """Hash of what decides a step's result.

    Args:
        previous: key of the step before, or checksum of the network the recipe began with.
        step: `Step.to_dict`.
        context: seed, data, teacher and the like.

    Returns:
        24 hexadecimal digits.
    """
    text = json.dumps([previous, dict(step), dict(context)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class Keeper:
    """Writes each finished step beside the result and finds those of an earlier run again."""

    def __init__(self, out: Path) -> None:
        """Args: out: the file the last step's network will be written to."""
        self._out = out

    def path(self, index: int, kind: str) -> Path:
        """Where the network after step `index` (from 1) is kept."""
        return self._out.with_name(f"{self._out.stem}.step{index}-{kind}.pt")

    def find(self, index: int, kind: str, key: str) -> Artifact | None:
        """The network after a step, if it was kept and everything it depends on is the same."""
        from compressor.artifact import load

        path = self.path(index, kind)
        if not path.is_file():
            return None
        try:
            artifact = load(path)
        except ArtifactError:
            return None  # cut off by a full disk, say: the step is simply run again
        same = bool(artifact.history) and artifact.history[-1].get("key") == key
        return artifact if same else None

    def keep(self, index: int, kind: str, artifact: Artifact) -> Path:
        """Write the network after a step, completely or not at all."""
        from compressor.artifact import save

        path = self.path(index, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        save(artifact, path)
        return path


OnStep = Callable[[StepRecord], None]
"""Called after each step."""
