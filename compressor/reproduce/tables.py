"""Reading a table of a TOML file: each key typed, unknown ones refused with the closest known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, overload

from compressor.errors import ConfigError, UnknownNameError

__all__ = ["Table", "merge"]

T = TypeVar("T")

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}
_REQUIRED: Any = object()


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` on top: tables are merged key by key, anything else is replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = merge(below, value) if both and below is not None else value
    return merged


class Table:
    """One table while it is read.

    Args:
        values: the table as TOML gives it.
        place: how it is written, such as "[model]", for messages.
    """

    def __init__(self, values: Any, place: str) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f"{place} is {values!r}; it must be a table")
        self._values = values
        self._place = place
        self._known: list[str] = []

    @overload
    def take(self, key: str, kind: type[T]) -> T: ...
    @overload
    def take(self, key: str, kind: type[T], default: None) -> T | None: ...
    @overload
    def take(self, key: str, kind: type[T], default: T) -> T: ...

    def take(self, key: str, kind: type[T], default: Any = _REQUIRED) -> Any:
        """The value of a key.

        Raises:
            ConfigError: it has another type, or is missing and has no default.
        """
        self._known.append(key)
        if key not in self._values:
            if default is _REQUIRED:
                raise ConfigError(f"{self._place} has no {key}; add {key} = {_WORDS[kind]}")
            return default
        value = self._values[key]
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
            raise ConfigError(f"{self._place} {key} is {value!r}; give {_WORDS[kind]}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; empty where the key is missing."""
        values = self.take(key, list, [])
        for value in values:
            if not isinstance(value, str):
                raise ConfigError(f"{self._place} {key} holds {value!r}; give a list of texts")
        return tuple(values)

    def choice(self, key: str, allowed: tuple[str, ...], default: str | None = None) -> str:
        """One of a few words."""
        value = self.take(key, str) if default is None else self.take(key, str, default)
        if value not in allowed:
            raise UnknownNameError(f"{key} in {self._place}", value, allowed)
        return value

    def tables(self, key: str) -> list[Any]:
        """The tables of `[[place.key]]`, unread."""
        return self.take(key, list, [])

    def done(self) -> None:
        """Raises UnknownNameError for a key that nobody took."""
        for key in self._values:
            if key not in self._known:
                raise UnknownNameError(f"key in {self._place}", str(key), self._known)
