"""Reading list files and checking them against the disk: every error names file and row."""

from __future__ import annotations

import csv
import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from compressor.data.dataset import Clip
from compressor.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

__all__ = [
    "Row",
    "Table",
    "check_files",
    "check_parts",
    "label_index",
    "misspelt",
    "read_header_line",
    "read_table",
    "shared_groups",
    "whole_number",
    "with_row",
]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a list: its line number in the file and its cells by column name."""

    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


@dataclass(frozen=True)
class Table:
    """A list file: tab or comma separated, with a header."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def error(self, row: Row, message: str) -> DataError:
        """A DataError that points at one row."""
        return DataError(f"{self.path}, line {row.line}: {message}")


def read_table(path: Path, needed: Sequence[str]) -> Table:
    """Reads a list file; line ends LF or CRLF, separator tab, comma or semicolon.

    Raises:
        DataError: no such file, not text, no rows, a needed column or cell is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader, columns = _open(stream)
            _check_columns(path, columns, needed)
            rows = []
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) > len(columns):
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(cells)} cells under "
                        f"{len(columns)} columns; quote a cell that holds the separator"
                    )
                row = Row(reader.line_num, dict(zip(columns, map(str.strip, cells), strict=False)))
                for column in needed:
                    if not row.cells.get(column):
                        raise DataError(f"{path}, line {row.line}: column {column!r} is empty")
                rows.append(row)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; the data set cannot be read without it") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a text list (UTF-8, tab or comma): {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if not rows:
        raise DataError(f"{path} has a header but no rows")
    return Table(path, columns, tuple(rows))


def read_header_line(path: Path) -> tuple[str, ...]:
    """The columns of a list; empty when the file is no list."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return _open(stream)[1]
    except (OSError, UnicodeDecodeError, csv.Error):
        return ()


def _open(stream: TextIO) -> tuple[Reader, tuple[str, ...]]:
    """A reader behind the header, and the header's columns."""
    header = stream.readline()
    separator = max("\t,;", key=header.count)
    stream.seek(0)
    reader = csv.reader(stream, delimiter=separator)
    return reader, tuple(cell.strip() for cell in next(reader, []))


def _check_columns(path: Path, columns: tuple[str, ...], needed: Sequence[str]) -> None:
    for column in needed:
        if column in columns:
            continue
        close = difflib.get_close_matches(column, columns, n=1, cutoff=0.6)
        hint = f" (is {close[0]!r} meant?)" if close else ""
        raise DataError(
            f"{path}: no column {column!r}{hint}; found: {', '.join(columns) or 'nothing'}; "
            f"needed: {', '.join(needed)}"
        )


def whole_number(table: Table, row: Row, column: str) -> int:
    """A cell that holds a whole number.

    Raises:
        DataError: it does not; names the row.
    """
    try:
        return int(row[column])
    except (KeyError, ValueError):
        value = row.cells.get(column, "")
        raise table.error(row, f"{column} is {value!r}; allowed: a whole number") from None


def label_index(table: Table, row: Row, label: str, classes: Sequence[str]) -> int:
    """The class index of a label.

    Raises:
        DataError: an unknown label; names the row and the closest classes.
    """
    try:
        return classes.index(label)
    except ValueError:
        close = difflib.get_close_matches(label, classes, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise table.error(
            row, f"unknown label {label!r}; {hint}allowed: {', '.join(classes)}"
        ) from None


def check_files(clips: Iterable[Clip]) -> None:
    """Sees that every listed file is there (one look per folder, not one per file).

    Raises:
        DataError: names the first missing file, its row, how many are missing, and a close name.
    """
    present: dict[str, set[str]] = {}
    missing: list[Clip] = []
    total = 0
    for clip in clips:
        total += 1
        parent, name = os.path.split(clip.path)
        if parent not in present:
            try:
                with os.scandir(parent) as entries:
                    present[parent] = {entry.name for entry in entries}
            except OSError:
                present[parent] = set()
        if name not in present[parent]:
            missing.append(clip)
    if not missing:
        return
    first = missing[0]
    folder = str(first.path.parent)
    if not Path(folder).is_dir():
        hint = f"the folder {folder} does not exist"
    else:
        # Only another ending or other capitals: numbered names are all "close" to each other.
        stem = first.path.stem.casefold()
        alike = [name for name in sorted(present[folder]) if Path(name).stem.casefold() == stem]
        hint = f"the folder holds {alike[0]!r}" if alike else "unpack the missing audio archives"
    raise DataError(
        f"{first.where}: the file is missing ({len(missing)} of {total} listed files are); {hint}"
    )


def check_parts(
    what: str, classes: Sequence[str], train: Sequence[Clip], test: Sequence[Clip]
) -> None:
    """Sees that both parts hold clips, share none, and that every class can be learnt.

    Raises:
        DataError: an empty part, a clip listed twice, a class that is tested but never trained.
    """
    for part, clips in (("training", train), ("test", test)):
        if not clips:
            raise DataError(f"{what}: the {part} part is empty; both parts need clips")
    seen: dict[Path, tuple[str, Clip]] = {}
    for part, clips in (("training", train), ("test", test)):
        for clip in clips:
            if clip.path in seen:
                other, first = seen[clip.path]
                where = f"twice in the {part} part" if other == part else "in both parts"
                raise DataError(
                    f"{what}: {clip.path} is listed {where}: {first.list_file} line {first.row} "
                    f"and {clip.list_file} line {clip.row}; keep one of the two rows"
                )
            seen[clip.path] = (part, clip)
    trained = {clip.label for clip in train}
    for clip in test:
        if clip.label not in trained:
            raise DataError(
                f"{what}: class {classes[clip.label]!r} is tested ({clip.where}) but has no clip "
                f"in the training part; {misspelt(classes[clip.label], classes)}"
                "add training clips or drop the class"
            )


def shared_groups(train: Sequence[Clip], test: Sequence[Clip]) -> tuple[str, ...]:
    """A note on groups (locations, source recordings) with clips in both parts; often empty."""
    shared = {clip.group for clip in train} & {clip.group for clip in test}
    if not shared:
        return ()
    return (
        f"{len(shared)} group(s) have clips in the training and in the test part "
        f"(e.g. {min(shared)}): the parts are not independent",
    )


def misspelt(label: str, classes: Sequence[str]) -> str:
    """A hint for an error about a class with too few clips; "" when no other name is close."""
    others = [one for one in classes if one != label]
    close = difflib.get_close_matches(label, others, n=1, cutoff=0.8)
    return f"if {close[0]!r} is meant, correct the label; otherwise " if close else ""


def with_row(error: DataError, clips: Iterable[Clip]) -> DataError:
    """Adds the list's row to an error that begins with a clip's path."""
    text = str(error)
    for clip in clips:
        if clip.row and text.startswith(f"{clip.path} "):
            return DataError(clip.where + text[len(str(clip.path)) :])
    return error
