"""Reads a report page as a browser without scripts and styles would: the standard parser only."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

from reports.html import script

VOID = {"meta", "link", "br", "img", "hr", "input", "base", "embed", "source", "track", "wbr"}


class Page(HTMLParser):
    """Elements, texts and tables of a page.

    Attributes:
        elements: (tag, attributes) in order.
        texts: (path of open tags, text).
        tables: rows of cell texts by the id of the table.
        scripts: (attributes, content) of every script.
    """

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[tuple[str, ...], str]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.unclosed: list[str] = []
        self._open: list[str] = []
        self._table = ""
        self.feed(text)
        self.close()
        self.unclosed += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"doubled attribute in <{tag}>: {names}"
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        # end tags that HTML lets one leave out
        if tag in ("td", "th", "tr"):
            self._close(("td", "th") if tag != "tr" else ("td", "th", "tr"))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = attributes["id"] or ""
            self.tables[self._table] = []
        elif tag == "tr":
            self.tables[self._table].append([])
        elif tag in ("td", "th"):
            self.tables[self._table][-1].append("")
        elif tag == "script":
            self.scripts.append((attributes, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def _close(self, tags: tuple[str, ...]) -> None:
        while self._open and self._open[-1] in tags:
            self.handle_endtag(self._open[-1])

    def handle_endtag(self, tag: str) -> None:
        if tag in ("tbody", "thead", "table"):
            self._close(("td", "th", "tr"))
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-3:]}"
        self._open.pop()
        if tag in ("td", "th"):
            row = self.tables[self._table][-1]
            row[-1] = " ".join(row[-1].split())

    def handle_data(self, data: str) -> None:
        data = data.replace("\u00a0", " ")
        self.texts.append((tuple(self._open), data))
        if "script" in self._open:
            attributes, content = self.scripts[-1]
            self.scripts[-1] = (attributes, content + data)
        elif "td" in self._open or "th" in self._open:
            row = self.tables[self._table][-1]
            row[-1] += data

    def text(self, *inside: str) -> str:
        """All text within the named tags, styles and scripts left out, spaces made single."""
        found = [
            data
            for path, data in self.texts
            if all(tag in path for tag in inside) and not {"style", "script"} & set(path)
        ]
        return " ".join("".join(found).split())

    def record(self) -> Any:
        """The data that the page carries."""
        (script,) = [text for found, text in self.scripts if found.get("id") == "record"]
        return json.loads(script)

    def attributes(self, name: str) -> list[tuple[str, str]]:
        """(tag, value) of every attribute of that name."""
        return [
            (tag, value or "")
            for tag, found in self.elements
            for n, value in found.items()
            if n == name
        ]


FETCHING = ("src", "srcset", "data", "action", "poster", "background", "xlink:href", "ping")
OURS = {script(name) for name in ("page.js", "load.js")}


def check_nothing_is_fetched(page: Page) -> None:
    """Nothing in a page loads anything, and every script in it is ours or plain data."""
    tags = {tag for tag, _ in page.elements}
    bad = {"iframe", "object", "embed", "img", "base", "form", "audio", "video", "image"}
    assert not tags & bad
    for name in FETCHING:
        assert page.attributes(name) == []
    for tag, value in page.attributes("href"):
        assert value == "data:," if tag == "link" else value.startswith("#"), (tag, value)
    for tag, value in page.attributes("style") + page.attributes("http-equiv"):
        raise AssertionError((tag, value))
    assert not [name for _, found in page.elements for name in found if name.startswith("on")]
    css = "".join(text for path, text in page.texts if "style" in path)
    assert "url(" not in css and "@import" not in css and "expression" not in css
    for attributes, content in page.scripts:
        kind = attributes.get("type")
        if kind == "application/json":
            json.loads(content)
        elif kind == "text/plain":
            assert attributes == {"type": "text/plain", "id": "runtime"}
        else:
            assert attributes == {} and content in OURS
