"""Texts, names and values out of foreign files, made harmless and short enough for a message."""

from __future__ import annotations

__all__ = ["one_line", "shown_name", "shown_reason", "shown_value"]

_HUGE = 1 << 64  # a longer number is not written out: turning it into digits can take minutes


def one_line(text: str) -> str:
    """Replaces what could steer a terminal: escapes, line ends, right-to-left marks."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def shown_name(key: object, most: int = 80) -> str:
    """Shows a name in one printable piece of at most `most` characters; of others their type."""
    shown = one_line(key) if isinstance(key, str) else type(key).__name__
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def shown_value(value: object, most: int = 80) -> str:
    """Shows a value as Python writes it, in at most `most` characters.

    Texts stand in quotes with everything unprintable escaped; of a container only the type.
    """
    if not isinstance(value, (str, int, float, bool, type(None))):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and abs(value) >= _HUGE:
        return "a huge number"
    shown = repr(value if not isinstance(value, str) else value[:most])
    return shown if len(shown) <= most else shown[: most - 3] + "..."


def shown_reason(error: Exception, most: int = 120) -> str:
    """Shows what an error says in one printable piece; its type where it says nothing."""
    return shown_name(str(error), most) or type(error).__name__
