"""The output file of a system: header, rows, names, labels, probabilities.

Row checks of 179,000 rows in about half a second: cells are read by the csv module, sums and
arg-max by numpy.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from compressor.audit.submission.forms import Form
from compressor.audit.submission.problems import Collected, Problem, quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_OUTPUT_BYTES", "check_output"]

MAX_OUTPUT_BYTES = 256 << 20  # the largest honest file, 178,930 rows at full precision, has 40 MB
SUM_TOLERANCE = 1e-3

Row = tuple[int, list[str]]  # line number and cells


class Reader(Protocol):
    """What `csv.reader` returns."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...

    def __next__(self) -> list[str]: ...


def check_output(
    data: bytes,
    file: str,
    form: Form,
    *,
    rows: int | None = None,
    tolerance: float = SUM_TOLERANCE,
    most: int = 10,
) -> tuple[bool, list[Problem]]:
    """Checks one output file.

    Args:
        data: its bytes.
        file: how the user knows it.
        form: of the year.
        rows: how many recordings the evaluation set has; None for the year's.
        tolerance: how far the sum of a row's probabilities may be from 1.
        most: how many problems of one kind are shown in full (0: all).

    Returns:
        Whether it is a table at all, so that its rows were checked; and everything that is wrong,
        each with its line.
    """
    if len(data) > MAX_OUTPUT_BYTES:
        message = f"{len(data):,} B, at most {MAX_OUTPUT_BYTES:,} B are read"
        return False, [Problem("output-format", file, message, "write one row a recording")]
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"byte {error.start:,} is not UTF-8"
        return False, [Problem("output-format", file, message, "save the file as UTF-8", line)]
    table = _Table(text, file, form, rows=rows, tolerance=tolerance, most=most)
    problems = list(table.problems())
    return table.whole, problems


class _Table:
    """One pass over the rows, then arithmetic over all of them at once."""

    def __init__(
        self,
        text: str,
        file: str,
        form: Form,
        *,
        rows: int | None,
        tolerance: float,
        most: int,
    ) -> None:
        self.text = text
        self.file = file
        self.form = form
        self.count = form.rows if rows is None else rows
        self.tolerance = tolerance
        self.whole = False
        last = f"{self.count - 1}.wav"

        def kind(check: str, fix: str) -> Collected:
            return Collected(check, file, fix, most)

        self.width = kind("output-format", "write one value a column, separated by tabs")
        self.names = kind("output-names", f"use 0.wav to {last}, each once, without a folder")
        self.labels = kind("output-labels", f"use one of {', '.join(form.classes)}")
        self.values = kind(
            "output-probabilities", "write a number of 0 to 1 in each class column; they sum to 1"
        )
        self.best = kind("output-argmax", "predict the class with the highest probability")

    def problems(self) -> Iterator[Problem]:
        """All problems: of the header, then of the rows by kind."""
        text = self.text
        if not text.strip():
            fix = f"write the header and {self.count:,} rows"
            yield Problem("output-format", self.file, "the file is empty", fix)
            return
        if text.startswith("\ufeff"):
            text = text[1:]
            fix = "save it without a BOM: readers take it as a part of the first column's name"
            message = "begins with a byte order mark"
            yield Problem("output-format", self.file, message, fix, 1)
        head = text[: text.find("\n")] if "\n" in text else text
        delimiter = "\t"
        if "\t" not in head:
            delimiter = next((mark for mark in ",;" if mark in head), "\t")
            if delimiter != "\t":
                message = f"columns are separated by {delimiter!r}, expected tabs"
                yield Problem("output-format", self.file, message, "write it tab-separated", 1)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        try:
            yield from self._rows(reader)
        except csv.Error as error:
            message = f"not a table: {error}"
            fix = "write plain tab-separated text"
            yield Problem("output-format", self.file, message, fix, reader.line_num)

    def _rows(self, reader: Reader) -> Iterator[Problem]:
        first = next(reader)
        header = [cell.strip() for cell in first] or [""]
        at = {name: index for index, name in enumerate(header)}
        yield from self._header(header, at)
        rows: Iterator[Row] = ((reader.line_num, row) for row in reader)
        if "filename" not in at:
            if not header[0].endswith(".wav"):
                return
            # no header: the first line is a row, the columns are taken to stand in their order
            rows = chain([(1, first)], rows)
            header = list(self.form.header)
            at = {name: index for index, name in enumerate(header)}
        columns = [at[name] for name in self.form.classes if name in at]
        whole = len(columns) == len(self.form.classes)
        yield from self._body(rows, at, columns if whole else [], len(header))

    def _header(self, header: Sequence[str], at: dict[str, int]) -> Iterator[Problem]:
        wanted = self.form.header
        if tuple(header) == wanted:
            return
        missing = [name for name in wanted if name not in at]
        extra = [name for name in header if name not in wanted]
        double = [name for name in wanted if header.count(name) > 1]
        if "filename" not in at and header[0].endswith(".wav"):
            what = "there is no header row"
        elif len(missing) == len(wanted):
            what = "no known column"
        else:
            parts = [
                f"{word} {', '.join(quoted(name) for name in names[:8])}"
                for word, names in (("missing", missing), ("unknown", extra), ("twice", double))
                if names
            ]
            what = "; ".join(parts) or "the columns stand in another order"
        fix = f"begin with these columns, separated by tabs: {', '.join(wanted)}"
        yield Problem("output-header", self.file, f"header: {what}", fix, 1)

    def _body(
        self, rows: Iterable[Row], at: dict[str, int], columns: list[int], width: int
    ) -> Iterator[Problem]:
        seen: dict[int, int] = {}
        flat: list[float] = []
        lines: list[int] = []
        predicted: list[int] = []
        classes = {name: index for index, name in enumerate(self.form.classes)}
        name_at, label_at = at["filename"], at.get("scene_label")
        total = 0
        for line, cells in rows:
            if not any(cells):
                continue  # blank lines, as at the end of a file
            row = cells
            total += 1
            if len(row) != width:
                self.width.add(line, f"{len(row)} columns, expected {width}")
                row = [*row, *[""] * (width - len(row))]
            self._name(row[name_at], line, seen)
            label = -1
            if label_at is not None:
                label = classes.get(row[label_at], -1)
                if label < 0:
                    self.labels.add(line, f"unknown scene_label {quoted(row[label_at])}")
            if columns and (numbers := self._numbers(row, columns, line)):
                flat += numbers
                lines.append(line)
                predicted.append(label)
        if columns:
            self._arithmetic(flat, lines, predicted)
        for kind in (self.width, self.names):
            yield from kind
        yield from self._missing(seen, total)
        for kind in (self.labels, self.values, self.best):
            yield from kind
        self.whole = True

    def _name(self, name: str, line: int, seen: dict[int, int]) -> None:
        stem = name[:-4]
        plain = name.endswith(".wav") and stem.isascii() and stem.isdecimal() and len(stem) < 10
        if not plain or (stem[0] == "0" and stem != "0"):
            self.names.add(line, f"file name {quoted(name)}, expected a number and .wav")
            return
        index = int(stem)
        if index >= self.count:
            last = f"{self.count - 1}.wav"
            self.names.add(line, f"{name} is not in the evaluation set, the last is {last}")
        elif index in seen:
            self.names.add(line, f"{name} stands twice, first in line {seen[index]}")
        else:
            seen[index] = line

    def _numbers(self, row: Sequence[str], columns: Sequence[int], line: int) -> list[float]:
        cells = [row[index] for index in columns]
        joined = "".join(cells)
        try:
            # Python also reads 0_1 and digits of other scripts; the organisers' tools need not
            if joined.isascii() and "_" not in joined:
                return list(map(float, cells))
        except ValueError:
            pass
        bad = next(
            (name, cell)
            for name, cell in zip(self.form.classes, cells, strict=True)
            if not _is_number(cell)
        )
        self.values.add(line, f"{bad[0]} is {quoted(bad[1])}, expected a number")
        return []

    def _arithmetic(self, flat: list[float], lines: list[int], predicted: list[int]) -> None:
        import numpy as np

        names = self.form.classes
        table: NDArray[np.float64] = np.array(flat, dtype=np.float64).reshape(-1, len(names))
        label = np.array(predicted, dtype=np.int64)
        finite = np.asarray(np.isfinite(table).all(axis=1))
        inside = np.asarray(((table >= 0.0) & (table <= 1.0)).all(axis=1))  # false for NaN
        with np.errstate(over="ignore", invalid="ignore"):
            total = table.sum(axis=1)
        # a sum of ten decimals may be off by some 1e-16: 1.001 itself is still within 1e-3
        off = np.abs(total - 1.0) > self.tolerance + 1e-12
        wrong = ~inside | off
        for index in np.flatnonzero(wrong).tolist():
            row = table[index]
            if not inside[index]:
                bad = ~np.isfinite(row) | (row < 0.0) | (row > 1.0)
                where = int(np.flatnonzero(bad)[0])
                what = f"{names[where]} is {row[where]:g}, expected 0 to 1"
            else:
                what = (
                    f"the probabilities sum to {total[index]:.6g}, expected 1 within "
                    f"{self.tolerance:g}"
                )
            self.values.add(lines[index], what)
        chosen = table[np.arange(len(table)), np.maximum(label, 0)]
        with np.errstate(invalid="ignore"):
            below = finite & (label >= 0) & (chosen < table.max(axis=1, initial=-np.inf))
        for index in np.flatnonzero(below).tolist():
            best = int(table[index].argmax())
            self.best.add(
                lines[index],
                f"predicts {names[label[index]]} ({chosen[index]:g}), the highest probability is "
                f"{names[best]} ({table[index, best]:g})",
            )

    def _missing(self, seen: dict[int, int], total: int) -> Iterator[Problem]:
        if total != self.count:
            message = f"{total:,} rows, the evaluation set of {self.form.year} has {self.count:,}"
            fix = f"write exactly one row for each of 0.wav to {self.count - 1}.wav"
            yield Problem("output-rows", self.file, message, fix)
        if len(seen) < self.count:
            absent = [f"{i}.wav" for i in _first_absent(seen, self.count)]
            left = self.count - len(seen)
            more = ", ..." if left > len(absent) else ""
            files = "file is" if left == 1 else "files are"
            message = f"{left:,} {files} not named: {', '.join(absent)}{more}"
            yield Problem("output-rows", self.file, message, "write a row for each recording")


def _is_number(cell: str) -> bool:
    if not cell.isascii() or "_" in cell:
        return False
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _first_absent(seen: dict[int, int], count: int, most: int = 5) -> Iterator[int]:
    found = 0
    for index in range(count):
        if index not in seen:
            yield index
            found += 1
            if found == most:
                return
