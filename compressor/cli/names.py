"""Names that the shell completes: networks, recipes, rules, front-ends; read without torch.

A completion runs at every press of the tab key, so the networks are found in the text of `zoo/`
(functions under `@register_model`) and not by importing it, which would load torch.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

__all__ = [
    "commands",
    "data_sets",
    "fits",
    "front_ends",
    "models",
    "networks",
    "recipes",
    "rules",
    "years",
]


def _zoo() -> Path | None:
    spec = importlib.util.find_spec("zoo")  # finds the package, does not run it
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def networks() -> list[str]:
    """Names of the registered networks, in the order of the files."""
    folder = _zoo()
    return [] if folder is None else [n for f in sorted(folder.glob("*.py")) for n in _in_file(f)]


def _in_file(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if "@register_model" not in text:
        return
    for node in ast.parse(text).body:
        if isinstance(node, ast.FunctionDef) and any(map(_registers, node.decorator_list)):
            yield node.name


def _registers(decorator: ast.expr) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(function, ast.Name) and function.id == "register_model"


def commands(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completions of a command's name."""
    root: Any = ctx.find_root().command
    return _starting(root.commands, incomplete)


def models(incomplete: str) -> list[str]:
    """Completions of `--model`."""
    return _starting(networks(), incomplete)


def recipes(incomplete: str) -> list[str]:
    """Completions of a recipe: the zoo's by name, and files."""
    folder = _zoo()
    own = [] if folder is None else sorted(p.stem for p in folder.glob("recipes/*.toml"))
    return _starting([*own, *_files(incomplete, (".toml", ".json"))], incomplete)


def rules(incomplete: str) -> list[str]:
    """Completions of a rule file."""
    return _starting(_files(incomplete, (".toml",)), incomplete)


def years(incomplete: str) -> list[str]:
    """Completions of a challenge year."""
    from compressor.audit.rules import years as known

    return _starting(["all", *map(str, known())], incomplete)


def fits(incomplete: str) -> list[str]:
    """Completions of `--fit`: the rules of each year, and rule files."""
    from compressor.audit.rules import years as known

    names = [f"dcase{year}" for year in known()]
    return _starting([*names, *_files(incomplete, (".toml",))], incomplete)


def front_ends(incomplete: str) -> list[str]:
    """Completions of `--front-end`."""
    from compressor.audio.logmel import PRESETS

    return _starting(PRESETS, incomplete)


def data_sets(incomplete: str) -> list[str]:
    """Completions of `--data`: the embedded set, folders and CSV lists."""
    return _starting(["synthetic", *_files(incomplete, (".csv",))], incomplete)


def _files(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    """Files of these kinds, and folders, that begin with what was typed."""
    typed = Path(incomplete).expanduser()
    folder = typed if incomplete.endswith("/") else typed.parent
    begin = incomplete[: incomplete.rfind("/") + 1]
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [
        f"{begin}{entry.name}{'/' if entry.is_dir() else ''}"
        for entry in found
        if not entry.name.startswith(".") and (entry.is_dir() or entry.suffix in suffixes)
    ]


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
