"""Labels of submissions: `Lastname_INST_task1_2`, and how many a team may send in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from compressor.audit.submission.forms import Form
from compressor.audit.submission.problems import Problem, quoted

__all__ = [
    "MAX_SYSTEMS",
    "Label",
    "label_problems",
    "looks_like_label",
    "parse_label",
    "team_problems",
]

MAX_SYSTEMS = 4  # "up to four systems a team", every year
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_TASK = re.compile(r"task1[ab]?")


@dataclass(frozen=True, slots=True)
class Label:
    """The four parts of a label; `index` is 1 to 4."""

    lastname: str
    institute: str
    task: str
    index: int

    @property
    def team(self) -> str:
        """What the systems of one team share."""
        return f"{self.lastname}_{self.institute}_{self.task}"


def parse_label(text: str) -> Label | None:
    """Splits a label; None where it has not the form of one (whatever its task and index)."""
    parts = text.split("_")
    if len(parts) != 4 or not all(_NAME.fullmatch(part) for part in parts):
        return None
    lastname, institute, task, index = parts
    if not _TASK.fullmatch(task) or not (index.isascii() and index.isdecimal()):
        return None
    return Label(lastname, institute, task, int(index[:4]))


def looks_like_label(text: str) -> bool:
    """Tells whether a folder's name was meant as a label."""
    return re.search(r"_task1[ab]?_", text, re.IGNORECASE) is not None


def label_problems(text: str, form: Form, file: str, line: int | None = None) -> Iterator[Problem]:
    """Says what is wrong with a label.

    Args:
        text: the label.
        form: of the year.
        file: where the label was found.
        line: in that file.
    """
    wanted = f"Lastname_INST_{form.task}_1"
    parts = text.split("_")
    if len(parts) != 4:
        yield Problem(
            "label",
            file,
            f"label {quoted(text)} has {len(parts)} parts between underscores, expected 4",
            f"name the system as {wanted}: last name, institute, {form.task}, number 1 to 4; use "
            "hyphens inside a name",
            line,
        )
        return
    for part, what in zip(parts[:2], ("last name", "institute"), strict=True):
        if not _NAME.fullmatch(part):
            yield Problem(
                "label",
                file,
                f"label {quoted(text)}: the {what} {quoted(part)} may hold only the letters A to "
                "Z, digits and hyphens",
                f"write it without accents and spaces, as in {wanted}",
                line,
            )
    if parts[2] != form.task:
        yield Problem(
            "label",
            file,
            f"label {quoted(text)}: the third part is {quoted(parts[2])}, {form.year} asks for "
            f"{form.task!r}",
            f"rename it to {'_'.join([*parts[:2], form.task, parts[3]])}"
            if text.isprintable()
            else f"name it as {wanted}",
            line,
        )
    if parts[3] not in {str(index) for index in range(1, MAX_SYSTEMS + 1)}:
        yield Problem(
            "label",
            file,
            f"label {quoted(text)}: the number at its end is {quoted(parts[3])}, allowed 1 to "
            f"{MAX_SYSTEMS}",
            f"number the systems of a team from 1 to {MAX_SYSTEMS}",
            line,
        )


def team_problems(labels: Iterable[str], file: str) -> Iterator[Problem]:
    """Says which team sent in more systems than are allowed."""
    teams: dict[str, list[str]] = {}
    for text in labels:
        parts = text.split("_")
        teams.setdefault("_".join(parts[:3]).casefold(), []).append(text)
    for members in teams.values():
        if len(members) > MAX_SYSTEMS:
            yield Problem(
                "systems-count",
                file,
                f"{len(members)} systems of one team ({', '.join(map(quoted, sorted(members)))}), "
                f"at most {MAX_SYSTEMS} are allowed",
                f"leave out {len(members) - MAX_SYSTEMS}",
            )
