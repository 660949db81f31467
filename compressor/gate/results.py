"""The accuracy of a model, read from a results file: a sweep's, or any JSON or CSV table."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressor.errors import MeasureError, UnknownNameError

__all__ = ["COLUMNS", "read_accuracy"]

MAX_RESULTS_BYTES = 64 << 20
#: Columns that are looked for when the settings name none: a sweep's two files, then plain tables.
COLUMNS = ("after_finetune.accuracy", "accuracy_after", "accuracy", "macro_accuracy")


def read_accuracy(path: Path, names: Sequence[str], column: str = "", row: str = "") -> float:
    """Reads one accuracy.

    Args:
        path: results.json or results.csv of a sweep, or any JSON object, list or CSV table.
        names: names the model goes by (file name, stem, label): the row that holds one of them in
            any column is its row. A table of one row needs none.
        column: the column, dotted for nested JSON; "" for the first of `COLUMNS` that is there.
        row: the row's name, instead of `names`.

    Raises:
        MeasureError: the file cannot be read, has no row of that name, or no number there.
        UnknownNameError: no such column; names the closest.
    """
    rows = _rows(path)
    if not rows:
        raise MeasureError(f"{path.name}: holds no results")
    wanted = [row] if row else list(names)
    found = [r for r in rows if _is(r, wanted)]
    if not found and len(rows) == 1 and not row:
        found = rows
    if not found:
        raise MeasureError(
            f"{path.name}: none of its {len(rows)} rows names {' or '.join(map(ascii, wanted))}; "
            "give accuracy.row in the settings"
        )
    if len(found) > 1:
        raise MeasureError(
            f"{path.name}: {len(found)} rows name {' or '.join(map(ascii, wanted))}; give the id "
            "of one as accuracy.row in the settings"
        )
    (flat,) = found
    name = column or next((name for name in COLUMNS if flat.get(name) not in {None, ""}), "")
    if not name or name not in flat:
        raise UnknownNameError(f"column of {path.name}", column or "accuracy", flat)
    try:
        value = float(flat[name])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise MeasureError(f"{path.name}: {name} is {str(flat[name])[:40]!a}, expected a number")
    return value


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        if path.stat().st_size > MAX_RESULTS_BYTES:
            raise MeasureError(f"{path.name}: larger than {MAX_RESULTS_BYTES:,} B")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MeasureError(f"{path.name}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise MeasureError(f"{path.name}: is not UTF-8 text") from error
    if text.lstrip()[:1] in {"{", "["}:
        try:
            return list(_json_rows(json.loads(text)))
        except (ValueError, RecursionError) as error:
            raise MeasureError(f"{path.name}: is not JSON: {str(error)[:80]}") from error
    try:
        head = text.partition("\n")[0]
        table = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in head else ",")
        return [{k: v for k, v in row.items() if isinstance(k, str)} for row in table]
    except csv.Error as error:
        raise MeasureError(f"{path.name}: is not a CSV table: {error}") from error


def _json_rows(data: Any) -> Iterator[dict[str, Any]]:
    """Rows of a sweep's record, of a list, of an object of objects, or the one object itself."""
    if isinstance(data, Mapping) and isinstance(data.get("points"), list):
        data = data["points"]
    if isinstance(data, list):
        yield from (dict(_flat(item)) for item in data if isinstance(item, Mapping))
    elif isinstance(data, Mapping):
        if data and all(isinstance(value, Mapping) for value in data.values()):
            yield from ({"name": key, **dict(_flat(value))} for key, value in data.items())
        else:
            yield dict(_flat(data))


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            yield f"{prefix}{key}", value


def _is(row: Mapping[str, Any], names: Sequence[str]) -> bool:
    """Whether a cell of the row is one of the names, as a whole or as the end of a path."""
    for value in row.values():
        if isinstance(value, str) and (value in names or value.rpartition("/")[2] in names):
            return True
    return False
