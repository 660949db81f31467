"""Reads the engine's record (`results.json`) and writes it into a page safely."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.errors import UsageError

__all__ = ["SCHEMA", "DataFacts", "check", "data_facts", "json_for_script", "load", "read"]

SCHEMA = 1
RESULTS_FILE = "results.json"

_SAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


@dataclass(frozen=True, slots=True)
class DataFacts:
    """What the page must always say about the data.

    Attributes:
        title: name of the data set in words.
        split: the split in words.
        synthetic: generated sounds instead of recordings.
        classes: class names in order.
        n_train: number of training clips; None if not recorded.
        n_test: number of test clips; None if not recorded.
        seen: devices of the training part.
        unseen: devices that only the test part has.
        front_end: name of the front-end.
        sample_rate_hz: rate of the audio; None if not recorded.
        clip_s: length of a clip in seconds; None if not recorded.
        notes: what the loader had to say about the data.
    """

    title: str
    split: str
    synthetic: bool
    classes: tuple[str, ...]
    n_train: int | None
    n_test: int | None
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    front_end: str
    sample_rate_hz: float | None
    clip_s: float | None
    notes: tuple[str, ...]


def read(path: Path) -> dict[str, Any]:
    """Read the record of a run.

    Args:
        path: a run folder or its `results.json`.

    Returns:
        The record, checked.

    Raises:
        UsageError: no such file, not JSON, or not a sweep record of a known schema.
    """
    file = path / RESULTS_FILE if path.is_dir() else path
    return check(load(file), str(file))


def load(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        UsageError: no such file, or not JSON.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot read {file}: {reason}; give a run folder that holds {RESULTS_FILE}"
        ) from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{file} is not JSON ({error}); run the command again that wrote it"
        ) from error


def check(results: object, name: str = "results") -> dict[str, Any]:
    """Check that a record has the shape the reports read.

    Raises:
        UsageError: naming what is missing or wrong, and in which point.
    """
    if not isinstance(results, Mapping):
        raise UsageError(f"{name}: expected an object with run and points, found {_kind(results)}")
    schema = results.get("schema")
    if schema != SCHEMA:
        newer = isinstance(schema, int) and schema > SCHEMA
        fix = "update compressor" if newer else "run the sweep again"
        raise UsageError(f"{name}: schema is {schema!r}, this version reads {SCHEMA}; {fix}")
    run, points = results.get("run"), results.get("points")
    if not isinstance(run, Mapping):
        raise UsageError(f"{name}: run must be an object, found {_kind(run)}")
    if isinstance(points, (str, bytes)) or not isinstance(points, Sequence):
        raise UsageError(f"{name}: points must be a list, found {_kind(points)}")
    for index, point in enumerate(points):
        _check_point(point, f"{name}: point {index}")
    return dict(results)


def _check_point(point: object, name: str) -> None:
    if not isinstance(point, Mapping):
        raise UsageError(f"{name} must be an object, found {_kind(point)}")
    for key in ("method", "status"):
        if not isinstance(point.get(key), str):
            raise UsageError(f"{name}: {key} must be a text, found {_kind(point.get(key))}")
    if point["status"] not in ("ok", "failed"):
        raise UsageError(f"{name}: status is {point['status']!r}, allowed are 'ok' and 'failed'")
    if point["status"] == "failed":
        return  # a failed job may have died before it knew anything of itself
    ratio, target = point.get("prune_ratio"), point.get("target_params")
    if ratio is None and _number(target) is not None:
        return  # pruned to a number of parameters: it has no ratio
    if isinstance(ratio, bool) or _number(ratio) is None:
        raise UsageError(f"{name}: prune_ratio must be a number, found {ratio!r}")


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__


def data_facts(run: Mapping[str, Any]) -> DataFacts:
    """The facts of the data set, from the run's own keys or from `run["dataset"]`/`run["data"]`."""
    nested: Mapping[str, Any] = {}
    for key in ("dataset", "data"):
        value = run.get(key)
        if isinstance(value, Mapping):
            nested = value
            break
    facts = {**run, **nested}
    synthetic = bool(facts.get("synthetic", False))
    title = str(facts.get("title") or facts.get("name") or "unnamed data set")
    seen, unseen = _devices(facts)
    front_end = facts.get("front_end")
    if isinstance(front_end, Mapping):
        front_end = front_end.get("name")
    return DataFacts(
        title=title,
        split=str(facts.get("split") or "not recorded"),
        synthetic=synthetic,
        classes=tuple(str(name) for name in _sequence(facts.get("classes"))),
        n_train=_whole(facts.get("n_train")),
        n_test=_whole(facts.get("n_test")),
        seen=seen,
        unseen=unseen,
        front_end=str(front_end or "not recorded"),
        sample_rate_hz=_number(facts.get("sample_rate_hz")),
        clip_s=_number(facts.get("clip_s")),
        notes=tuple(str(note) for note in _sequence(facts.get("notes"))),
    )


def _devices(facts: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    devices = facts.get("devices")
    if isinstance(devices, Mapping):
        seen, unseen = devices.get("seen"), devices.get("unseen")
    else:
        seen, unseen = facts.get("seen_devices"), facts.get("unseen_devices")
        if seen is None:
            hidden = set(_sequence(unseen))
            seen = [name for name in _sequence(devices) if name not in hidden]
    return (
        tuple(str(name) for name in _sequence(seen) if name),
        tuple(str(name) for name in _sequence(unseen) if name),
    )


def _sequence(value: object) -> Sequence[Any]:
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes)) else ()


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else round(number)


def json_for_script(value: object) -> str:
    """JSON that cannot leave a `<script type="application/json">` element.

    Numbers that JSON does not know (NaN, infinity) become null; `<`, `>`, `&` and the two line
    separators of Unicode are written as escapes, so that no text can close the element.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return "".join(_SAFE.get(character, character) for character in text)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def walk(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Leaves of nested mappings with their dotted names, for tables of settings."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)) and not any(isinstance(v, Mapping) for v in value):
        yield path, ", ".join(str(item) for item in value)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from walk(item, f"{path}.{index}")
    else:
        yield path, value
