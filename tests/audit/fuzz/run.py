"""Fuzzes every reader of model files and packages.

    python -m tests.audit.fuzz.run --seed 1 --count 20000 [--format onnx] [--save FOLDER]

A mutation is a pure function of the format, the seed and its number: `--format onnx --seed 1
--start 4711 --count 1` repeats it. Files that were found wanting are saved with these in their
names. Exit code 1 when there are any.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .corpus import FORMATS, build, read_corpus
from .mutate import mutate

__all__ = ["Finding", "Fuzzer", "Row", "fuzz", "shares", "table"]

PATIENCE = 120.0  # seconds without an answer, far beyond the worker's own limits


@dataclass(frozen=True, slots=True)
class Finding:
    """One mutation that did not end in a result or in one clear line."""

    format: str
    seed: int
    index: int
    what: str


@dataclass(slots=True)
class Row:
    """What came of one format's mutations."""

    format: str
    mutations: int = 0
    refused: int = 0
    read: int = 0
    slowest: float = 0.0
    seconds: float = 0.0
    peak: int = 0
    growth: int = 0
    findings: list[Finding] = field(default_factory=list)

    def add(self, answer: dict[str, Any], seed: int) -> None:
        """Counts one answer of the worker."""
        self.mutations += 1
        self.refused += answer["outcome"] == "refused"
        self.read += answer["outcome"] == "read"
        self.slowest = max(self.slowest, answer["seconds"])
        self.seconds += answer["seconds"]
        self.peak = max(self.peak, answer["peak"])
        self.growth = max(self.growth, answer["growth"])
        if answer["outcome"] == "found":
            self.findings.append(Finding(self.format, seed, answer["index"], answer["what"]))


class Fuzzer:
    """The process that reads; it is started again when a file has killed it."""

    def __init__(
        self, corpus: Path, scratch: Path, formats: Sequence[str], *, reader: Path | None = None
    ) -> None:
        """Takes the corpus, a folder to work in, and the formats whose readers are wanted.

        `reader`: a Python file whose `read(path)` and limit `SECONDS` stand in for all of them
        (for tests of the watch).
        """
        self.arguments = [str(corpus), str(scratch), ",".join(formats)]
        self.arguments += [str(reader)] if reader else []
        self.process: subprocess.Popen[bytes] | None = None
        self.unread = b""
        self.ended = ""
        self.sound = 0

    def __enter__(self) -> Fuzzer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def answers(self, name: str, seed: int, start: int, stop: int) -> Iterator[dict[str, Any]]:
        """Runs mutations `start` to `stop`; the worker's death is an answer too."""
        while start < stop:
            self._send({"format": name, "seed": seed, "start": start, "stop": stop})
            while start < stop:
                answer = self._answer()
                yield answer | {"index": start}
                start += 1
                if self.process is None:
                    break

    def one(self, name: str, data: bytes) -> dict[str, Any]:
        """Runs one given file."""
        self._send({"format": name, "data": base64.b64encode(data).decode()})
        return self._answer()

    def _send(self, order: dict[str, Any]) -> None:
        if self.process is None:
            self._start()
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def _start(self) -> None:
        tests = Path(__file__).resolve().parents[1]
        paths = [str(tests), str(tests.parents[1])]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "OPENBLAS_NUM_THREADS": "1",  # each thread takes address space, which is bounded
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker", *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self.unread = b""
        ready = self._line()
        if ready is None:
            raise RuntimeError(f"the reading process did not start ({self.ended})")
        self.sound = ready["sound"]

    def _answer(self) -> dict[str, Any]:
        answer = self._line()
        if answer is None:
            what = f"the process ended: {self.ended}"
            return {"outcome": "found", "what": what, "seconds": 0.0, "peak": 0, "growth": 0}
        if "broken" in answer:
            raise RuntimeError(answer["broken"])
        return answer

    def _line(self) -> dict[str, Any] | None:
        """The next line of the worker; None when it has died or says nothing for too long."""
        assert self.process is not None
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        while b"\n" not in self.unread:
            if not select.select([descriptor], [], [], PATIENCE)[0]:
                self.process.kill()
            part = os.read(descriptor, 1 << 16)
            if not part:
                self._end()
                return None
            self.unread += part
        line, _, self.unread = self.unread.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _end(self) -> None:
        if self.process is None:
            return
        process, self.process = self.process, None
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        self.ended = f"code {process.wait()}"


def shares(count: int, formats: Sequence[str]) -> dict[str, int]:
    """Splits a count among formats by their weights; every one gets at least one."""
    whole = sum(FORMATS[name][1] for name in formats)
    return {name: max(1, -(-count * FORMATS[name][1] // whole)) for name in formats}


def fuzz(
    corpus: Path,
    scratch: Path,
    seed: int,
    count: int,
    formats: Sequence[str],
    *,
    start: int = 0,
) -> list[Row]:
    """Runs `count` mutations or a few more, split among the formats."""
    rows = []
    with Fuzzer(corpus, scratch, formats) as fuzzer:
        for name, number in shares(count, formats).items():
            row = Row(name)
            for answer in fuzzer.answers(name, seed, start, start + number):
                row.add(answer, seed)
            rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    """A line a format: mutations, refused, read, found, slowest, CPU seconds, memory."""
    lines = [
        f"{'format':12}{'mutations':>10}{'refused':>9}{'read':>7}{'found':>7}{'slowest s':>11}"
        f"{'CPU s':>8}{'RSS MB':>8}{'growth MB':>11}"
    ]
    total = Row("all")
    for row in rows:
        total.mutations += row.mutations
        total.refused += row.refused
        total.read += row.read
        total.findings += row.findings
        total.seconds += row.seconds
        total.slowest = max(total.slowest, row.slowest)
        total.peak = max(total.peak, row.peak)
        total.growth = max(total.growth, row.growth)
    lines += [
        f"{row.format:12}{row.mutations:>10,}{row.refused:>9,}{row.read:>7,}"
        f"{len(row.findings):>7,}{row.slowest:>11.3f}{row.seconds:>8.1f}{row.peak / 1e6:>8.0f}"
        f"{row.growth / 1e6:>11.1f}"
        for row in (*rows, total)
    ]
    return "\n".join(lines)


def save(findings: Sequence[Finding], corpus: Path, folder: Path) -> list[Path]:
    """Writes the files that were found, named by format, seed and number."""
    written = []
    for finding in findings:
        files = read_corpus(corpus, finding.format)
        data = mutate(finding.format, files, finding.seed, finding.index)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{finding.format}-{finding.seed}-{finding.index}.bin"
        path.write_bytes(data)
        written.append(path)
    return written


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Fuzzes the readers of model files.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--start", type=int, default=0, help="number of the first mutation")
    parser.add_argument("--format", action="append", choices=list(FORMATS))
    parser.add_argument("--save", type=Path, default=Path(tempfile.gettempdir()) / "fuzz-findings")
    parser.add_argument("--corpus", type=Path, help="keeps the sound files there")
    given = parser.parse_args()
    formats = given.format or list(FORMATS)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        corpus = build((given.corpus or work / "corpus").resolve(), formats)
        rows = fuzz(corpus, work / "scratch", given.seed, given.count, formats, start=given.start)
        print(table(rows))
        findings = [finding for row in rows for finding in row.findings]
        paths = save(findings, corpus, given.save)
    for finding, path in zip(findings, paths, strict=True):
        print(f"{path}: {finding.what}")
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, child = (usage.ru_utime + usage.ru_stime for usage in used)
    print(f"seed {given.seed}: {child:.1f} CPU seconds to read, {own:.1f} to prepare")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
