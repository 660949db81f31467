"""Finding training recipes and reading them: names, files, variants, `extends`, changed values."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compressor.errors import ConfigError, UnknownNameError, UsageError
from compressor.reproduce.recipe import SECTIONS, TrainingRecipe, from_tables
from compressor.reproduce.tables import Table, merge

__all__ = ["find_recipe", "list_recipes", "load_recipe", "parse_changes", "recipes_folder"]


def recipes_folder() -> Path:
    """Where the project's own recipes are."""
    import importlib.util

    # found, not imported: importing the zoo loads torch
    spec = importlib.util.find_spec("zoo")
    assert spec is not None and spec.origin is not None  # it is part of the distribution
    return Path(spec.origin).parent / "recipes"


def list_recipes() -> list[str]:
    """Names of the project's own recipes, sorted."""
    return sorted(path.stem for path in recipes_folder().glob("*.toml"))


def find_recipe(spec: str) -> tuple[Path, str]:
    """File and variant of "NAME", "NAME:VARIANT", "FILE.toml" or "FILE.toml:VARIANT".

    Raises:
        UnknownNameError: no recipe of that name; offers close ones.
        ConfigError: no such file.
    """
    text, _, variant = spec.partition(":")
    if text.endswith(".toml") or "/" in text:
        path = Path(text)
        if not path.is_file():
            raise ConfigError(
                f"there is no recipe file {path}; `compressor recipe copy NAME FILE.toml` makes one"
            )
        return path, variant
    if text not in list_recipes():
        raise UnknownNameError("training recipe", text, list_recipes())
    return recipes_folder() / f"{text}.toml", variant


def load_recipe(spec: str, changes: Sequence[str] = ()) -> TrainingRecipe:
    """Read a training recipe.

    Args:
        spec: a name or a file, with or without ":VARIANT".
        changes: "section.key=value", each; values as in TOML, plain text without quotes.

    Raises:
        UnknownNameError: a name, variant, section or key that does not exist, with close ones.
        ConfigError: a bad value, or not a training recipe; the message names the file.
    """
    path, variant = find_recipe(spec)
    try:
        return _load(path, variant, changes)
    except UnknownNameError:
        raise
    except ConfigError as error:
        raise ConfigError(f"recipe {path.stem}: {error}") from error


def _load(path: Path, variant: str, changes: Sequence[str]) -> TrainingRecipe:
    tables = _read(path, ())
    known = tables.get("variants", {})
    if variant and variant not in known:
        if not known:
            raise UsageError(f"recipe {path.stem} has no variants; leave ':{variant}' away")
        raise UnknownNameError(f"variant of {path.stem}", variant, known)
    variant = variant or Table(tables.get("recipe", {}), "[recipe]").take("variant", str, "")
    if variant:
        if variant not in known:
            raise UnknownNameError(f"variant of {path.stem}", variant, known)
        tables = merge(tables, _changes(known[variant]))
    # without changes first: what is wrong in the file is not the fault of `--set`
    recipe = from_tables(tables, path.stem, variant)
    if changes:
        recipe = recipe.changed(parse_changes(changes))
    for name in recipe.ablations:
        recipe.ablated(name)  # a line that cannot be run is refused now
    return recipe


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The tables of a file over those of the recipe it extends."""
    if path.resolve() in seen:
        names = " -> ".join(p.stem for p in (*seen, path))
        raise ConfigError(f"recipes extend each other in a circle: {names}")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    if "step" in tables:
        raise ConfigError(
            f"{path} has [[step]] tables: it is a compression recipe; give it to `compressor "
            "compress --recipe`, or put its steps into [[compression.NAME.step]] of a training "
            "recipe"
        )
    base = Table(tables, "the recipe").take("extends", str, "")
    if not base:
        return tables
    below, _, variant = base.partition(":")
    beside = path.with_name(below)
    target, _ = (beside, "") if below.endswith(".toml") else find_recipe(below)
    found = _read(target, (*seen, path.resolve()))
    variant = variant or Table(found.get("recipe", {}), "[recipe]").take("variant", str, "")
    if variant:
        known = found.get("variants", {})
        if variant not in known:
            raise UnknownNameError(f"variant of {target.stem}", variant, known)
        found = merge(found, _changes(known[variant]))
        # its changes are in: laid over once more they would undo those of this file
        kept = {**known, variant: {"about": known[variant].get("about", "")}}
        found = {**merge(found, {"recipe": {"variant": variant}}), "variants": kept}
    return merge(found, tables)


def _changes(variant: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a variant that are laid over the recipe's."""
    return {key: value for key, value in variant.items() if key != "about"}


def parse_changes(given: Sequence[str]) -> dict[str, Any]:
    """`--set section.key=value` as tables.

    Raises:
        UsageError: not of that form, or a key given twice.
        UnknownNameError: no such section.
    """
    tables: dict[str, Any] = {}
    for text in given:
        key, separator, value = text.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not separator or len(parts) < 2 or not all(parts):
            raise UsageError(f"--set {text!r}: write section.key=value, such as training.epochs=20")
        if parts[0] not in SECTIONS:
            raise UnknownNameError("section of a training recipe", parts[0], SECTIONS)
        _refuse_settled(text, parts)
        inner = tables
        for part in parts[:-1]:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, Mapping):
                raise UsageError(f"--set {text!r}: {part} has a value already")
        if parts[-1] in inner:
            raise UsageError(f"--set gives {key.strip()} twice; give it once")
        inner[parts[-1]] = _value(value.strip())
    return tables


def _refuse_settled(text: str, parts: Sequence[str]) -> None:
    """Refuses changes of what decides before changes are laid over: they would do nothing.

    Raises:
        UsageError: such a change.
    """
    if parts[0] == "variants" or parts[:2] == ["recipe", "variant"]:
        raise UsageError(
            f"--set {text!r}: a variant is named with the recipe, as in scut2023:model2, and its "
            "values are set in their own sections, such as model.name=dsmn"
        )
    if parts[0] in ("version", "extends"):
        raise UsageError(
            f"--set {text!r}: {parts[0]} belongs to a recipe's file; `compressor recipe copy NAME "
            "FILE.toml --extend` makes one"
        )


def _value(text: str) -> Any:
    """A TOML value; what is none is text without its quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
