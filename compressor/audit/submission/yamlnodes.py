"""YAML read as a tree that knows its lines: composed and never constructed, with bounds.

PyYAML's safe loader would do for safety, but it forgets where values stood, takes the last of two
equal keys in silence, and expands aliases without end ("billion laughs"). So the node graph is
walked here, under a budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from compressor.audit.shown import shown_name
from compressor.audit.submission.problems import Problem, quoted

__all__ = ["MAX_META_BYTES", "Tree", "read_yaml"]

MAX_META_BYTES = 256 << 10  # the official template has 8 kB
MAX_NODES = 20_000  # after aliases are followed
MAX_DEPTH = 40

_SCALARS = {"null", "bool", "int", "float", "str", "timestamp"}


@dataclass(slots=True)
class Tree:
    """One value of a YAML file.

    Attributes:
        line: where it stands, from 1.
        value: None, bool, int, float or str for a scalar; None for a map or a list.
        raw: a scalar as it was written.
        kind: "map", "list" or "scalar".
        fields: values of a map by key; lines: of its keys; items: of a list.
    """

    line: int
    kind: str = "scalar"
    value: bool | int | float | str | None = None
    raw: str = ""
    fields: dict[str, Tree] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    items: list[Tree] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        """Whether nothing is there: null, or a blank text."""
        return self.kind == "scalar" and (self.value is None or not self.raw.strip())

    def get(self, *path: str) -> Tree | None:
        """Returns the value under a path of keys; None where a part of it is missing."""
        found: Tree | None = self
        for key in path:
            found = found.fields.get(key) if found is not None else None
        return found

    def scalars(self, path: str = "") -> Iterator[tuple[str, Tree]]:
        """All scalars with their dotted paths, in the order of the file."""
        if self.kind == "map":
            for key, item in self.fields.items():
                yield from item.scalars(f"{path}.{key}" if path else key)
        elif self.kind == "list":
            for index, item in enumerate(self.items):
                yield from item.scalars(f"{path}[{index}]")
        else:
            yield path, self


def read_yaml(data: bytes, file: str) -> tuple[Tree | None, list[Problem]]:
    """Reads one YAML document.

    Args:
        data: content of the file.
        file: what problems call it.

    Returns:
        The tree, or None where nothing could be read; and what is wrong (check "meta-yaml").
    """
    problems: list[Problem] = []

    def problem(message: str, fix: str, line: int | None = None) -> None:
        problems.append(Problem("meta-yaml", file, message, fix, line))

    if len(data) > MAX_META_BYTES:
        problem(
            f"{len(data):,} B, at most {MAX_META_BYTES:,} B are read",
            "a meta.yaml holds a few kilobytes of text; take out what does not belong there",
        )
        return None, problems
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem(f"byte {error.start:,} is not UTF-8", "save the file as UTF-8", line)
        return None, problems
    tree = _compose(text, problem)
    return tree, problems


def _compose(text: str, problem: Any) -> Tree | None:
    import yaml

    try:
        root = _loader(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        problem(
            f"not valid YAML: {_flat(what)}",
            "indent with spaces only, write `key: value`, and quote texts that hold ': ' or '#'",
            mark.line + 1 if mark else None,
        )
        return None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        at = getattr(error, "position", None)
        line = text.count("\n", 0, at) + 1 if isinstance(at, int) else None
        problem(f"not valid YAML: {_flat(str(error))}", "take the character out", line)
        return None
    except (RecursionError, ValueError) as error:
        problem(f"not valid YAML: {_flat(str(error))}", "write the file anew from the template")
        return None
    if root is None:
        problem("the file is empty", "fill in the template: compressor submission new")
        return None
    walker = _Walker(problem)
    tree = walker.tree(root, 0)
    if walker.stopped:
        return None
    if tree.kind != "map":
        problem(
            f"expected `key: value` lines at the top, found a {tree.kind}",
            "the blocks submission, system and results stand at the top",
            tree.line,
        )
        return None
    return tree


def _loader(text: str) -> Any:
    """Composes the node graph; nesting is bounded while the parser runs."""
    import yaml

    class Bounded(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
        depth = 0
        nodes = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.depth += 1
            self.nodes += 1
            if self.depth > MAX_DEPTH or self.nodes > MAX_NODES:
                mark = self.peek_event().start_mark
                what = (
                    f"more than {MAX_DEPTH} levels deep"
                    if self.depth > MAX_DEPTH
                    else f"more than {MAX_NODES:,} values"
                )
                raise yaml.MarkedYAMLError(problem=what, problem_mark=mark)
            try:
                return super().compose_node(parent, index)
            finally:
                self.depth -= 1

    loader = Bounded(text)
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


class _Walker:
    """Turns nodes into trees; an alias costs what it stands for."""

    def __init__(self, problem: Any) -> None:
        self._problem = problem
        self._left = MAX_NODES
        self._open: set[int] = set()
        self.stopped = False

    def tree(self, node: Any, depth: int) -> Tree:
        """Returns the tree of a node; stops where the budget is spent or an alias holds itself."""
        line = node.start_mark.line + 1
        self._left -= 1
        if self.stopped:
            return Tree(line)
        if self._left < 0 or depth > MAX_DEPTH or id(node) in self._open:
            self.stopped = True
            self._problem(
                "aliases stand for too much: they hold themselves, or more than "
                f"{MAX_NODES:,} values",
                "write the values out instead of using & and *",
                line,
            )
            return Tree(line)
        self._open.add(id(node))
        try:
            return self._made(node, line, depth)
        finally:
            self._open.discard(id(node))

    def _made(self, node: Any, line: int, depth: int) -> Tree:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if node.id == "mapping":
            made = Tree(line, kind="map")
            for key, value in node.value:
                at = key.start_mark.line + 1
                name = key.value if isinstance(key.value, str) else None
                if name is None:
                    self._problem("a key that is no plain text", "write `key: value`", at)
                elif name in made.fields:
                    self._problem(
                        f"the key {quoted(name)} stands twice (first in line {made.lines[name]})",
                        "keep one of them: readers take the last in silence",
                        at,
                    )
                else:
                    made.fields[name] = self.tree(value, depth + 1)
                    made.lines[name] = at
            return made
        if node.id == "sequence":
            items = [self.tree(item, depth + 1) for item in node.value]
            return Tree(line, kind="list", items=items)
        if kind not in _SCALARS:
            self._problem(
                f"the tag {quoted(node.tag)} is not allowed", "write the plain value", line
            )
            return Tree(line, value=node.value, raw=node.value)
        return Tree(line, value=_scalar(kind, node.value), raw=node.value)


def _scalar(kind: str, raw: str) -> bool | int | float | str | None:
    """A scalar's value; numbers that Python cannot read (1:30 as base 60) stay texts."""
    if kind == "null":
        return None
    if kind == "bool":
        return raw.strip().lower() in {"yes", "true", "on", "y"}
    if kind in {"int", "float"}:
        return _number(raw)
    return raw


def _number(raw: str) -> int | float | str:
    plain = raw.strip().replace("_", "")
    specials: Mapping[str, float] = {".nan": math.nan, ".inf": math.inf, "-.inf": -math.inf}
    if plain.lower() in specials:
        return specials[plain.lower()]
    if len(plain) > 100:
        return raw
    for read in (int, float):
        try:
            return read(plain)
        except ValueError:
            continue
    return raw


def _flat(text: str) -> str:
    """An error text in one printable line."""
    return shown_name(" ".join(text.split()), 200)
