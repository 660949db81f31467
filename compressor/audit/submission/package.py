"""A submission package as it lies on disk: a label folder, a `task1` folder, or a zip of one.

Nothing is unpacked but model files, into a temporary folder that goes away with the package.
Symbolic links are not followed: what a package shows must lie inside it.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import TracebackType

from compressor.audit.readers.archive import Archive, open_archive
from compressor.audit.submission.labels import looks_like_label, parse_label
from compressor.audit.submission.problems import Problem, quoted
from compressor.errors import ModelFileError

__all__ = ["MODEL_SUFFIXES", "Entry", "Package", "System", "is_package", "open_package"]

MODEL_SUFFIXES = frozenset(
    {".pt", ".pth", ".pt2", ".ckpt", ".onnx", ".tflite", ".h5", ".hdf5", ".keras", ".safetensors"}
)
MAX_ENTRIES = 10_000
MAX_DEPTH = 8
MAX_MODEL_BYTES = 1 << 30
_CLUTTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})
_TASK_FOLDERS = frozenset({"task1", "task1a", "task1b"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of a package.

    Attributes:
        inner: path inside the package, with slashes; shown: the same as the user knows it.
        size: bytes.
    """

    inner: str
    shown: str
    size: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.inner.rpartition("/")[2]


@dataclass(slots=True)
class System:
    """One label folder: its files by kind."""

    label: str
    shown: str
    metas: list[Entry] = field(default_factory=list)
    outputs: list[Entry] = field(default_factory=list)
    models: list[Entry] = field(default_factory=list)
    others: list[Entry] = field(default_factory=list)


def is_package(path: Path) -> bool:
    """Tells a package from a model file or a folder of model files, by names alone.

    Raises:
        ModelFileError: a zip archive that is damaged or hostile.
    """
    if path.is_dir():
        if looks_like_label(path.name) or path.name in _TASK_FOLDERS:
            return True
        return any(_of_package(inner) for inner, _ in _walk(path))
    if path.suffix.lower() == ".zip":
        return True
    try:
        with path.open("rb") as stream:
            if stream.read(4) != b"PK\x03\x04":
                return False
    except OSError:
        return False
    with open_archive(path, path.name, path.stat().st_size) as archive:
        return any(_of_package(member) for member in archive.members)


def _of_package(inner: str) -> bool:
    name = inner.rpartition("/")[2].lower()
    return (
        name.endswith((".meta.yaml", ".meta.yml"))
        or ".output." in name
        or any(looks_like_label(part) for part in inner.split("/")[:-1])
    )


def _walk(folder: Path) -> Iterator[tuple[str, int]]:
    """Files below a folder with their sizes; a symbolic link has size -1."""
    count = 0
    for root, folders, files in os.walk(folder, followlinks=False):
        here = Path(root).relative_to(folder)
        folders.sort()
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        if len(here.parts) >= MAX_DEPTH:
            folders.clear()
        for name in sorted([*files, *links]):
            count += 1
            if count > MAX_ENTRIES:
                raise ModelFileError(
                    f"{folder.name}: more than {MAX_ENTRIES:,} files; name the package's own folder"
                )
            file = Path(root) / name
            try:
                size = -1 if file.is_symlink() else file.stat().st_size
            except OSError:
                size = -1
            yield (here / name).as_posix(), size


class Package:
    """An opened package; a context manager.

    Attributes:
        shown: the path as the user gave it; kind: "folder" or "zip".
        systems: label folders, in the order of their names.
        problems: what is wrong with the layout.
    """

    def __init__(self, path: Path) -> None:
        """Opens a package; `open_package` reads what is in it."""
        self.path = path
        self.shown = path.as_posix()
        self.kind = "folder" if path.is_dir() else "zip"
        self.systems: list[System] = []
        self.problems: list[Problem] = []
        self._stack = ExitStack()
        self._archive: Archive | None = None
        self._entries: dict[str, Entry] = {}

    def __enter__(self) -> Package:
        """Opens the archive if it is one, and sorts the files.

        Raises:
            ModelFileError: a damaged or hostile archive, or one with too many files.
        """
        with self._stack as stack:
            if self.kind == "zip":
                size = self._size()
                self._archive = stack.enter_context(open_archive(self.path, self.path.name, size))
                found = [
                    (name, info.file_size)
                    for name, info in self._archive.members.items()
                    if not info.is_dir()
                ]
                if len(found) > MAX_ENTRIES:
                    raise ModelFileError(
                        f"{self.path.name}: {len(found):,} files, at most {MAX_ENTRIES:,} are read"
                    )
            else:
                found = list(_walk(self.path))
            self._sort(found)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the archive and removes temporary files."""
        self._stack.close()

    def _size(self) -> int:
        try:
            with self.path.open("rb") as stream:
                return stream.seek(0, os.SEEK_END)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            reason = error.strerror if isinstance(error, OSError) else error
            raise ModelFileError(f"{self.path.name}: cannot be read: {reason}") from error

    def read(self, entry: Entry, most: int) -> bytes:
        """Returns a file's bytes.

        Raises:
            ModelFileError: larger than `most`, damaged, or gone.
        """
        if entry.size > most:
            raise ModelFileError(f"{entry.name}: {entry.size:,} B, at most {most:,} B are read")
        if self._archive is not None:
            return self._archive.read(entry.inner, most)
        try:
            return (self.path / entry.inner).read_bytes()
        except OSError as error:
            raise ModelFileError(f"{entry.name}: cannot be read: {error.strerror}") from error

    def sha256(self, entry: Entry) -> str:
        """SHA-256 of a file in hexadecimal digits."""
        return hashlib.sha256(self.read(entry, MAX_MODEL_BYTES)).hexdigest()

    def on_disk(self, entry: Entry) -> Path:
        """Returns a path under which a model file can be opened.

        Raises:
            ModelFileError: as `read`.
        """
        if self._archive is None:
            return self.path / entry.inner
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="compressor-gate-"))
        file = Path(folder) / re.sub(r"[^A-Za-z0-9._-]", "_", entry.name)[-100:].lstrip(".")
        file.write_bytes(self.read(entry, MAX_MODEL_BYTES))
        return file

    # -- layout -----------------------------------------------------------------------------------

    def _shown(self, inner: str) -> str:
        return f"{self.shown}/{inner}" if inner not in {"", "."} else self.shown

    def _sort(self, found: list[tuple[str, int]]) -> None:
        """Puts every file into its label folder."""
        folders: dict[str, System] = {}
        top: list[str] = []
        for inner, size in sorted(found):
            parts = inner.split("/")
            if _CLUTTER & set(parts) or parts[-1].startswith("._"):
                if self.kind == "zip":
                    fix = "leave it out of the package"
                    self._add("package-extra", inner, "a file of the operating system", fix)
                continue
            shown = self._shown(inner)
            if size < 0:
                fix = "put the file itself into the package"
                self._add("package-layout", inner, "a symbolic link, which is not followed", fix)
                continue
            entry = Entry(inner, shown, size)
            folder = "/".join(parts[:-1])
            home = self._home(folder)
            if home is None:
                top.append(inner)
                continue
            label = home.rpartition("/")[2] or self.path.absolute().name
            system = folders.setdefault(home, System(label, self._shown(home)))
            _kind_of(system, entry).append(entry)
        for inner in top:
            if _of_package(inner):
                fix = "put it into a folder that is named as its label"
                self._add("package-layout", inner, "stands outside of a label folder", fix)
        self.systems = [folders[home] for home in sorted(folders)]
        for home, system in folders.items():
            self._name(home, system)
        if not folders:
            fix = "expected task1/<label>/<label>.meta.yaml, or the folder <label> itself"
            self._add("package-layout", "", "no label folder found", fix)
        self._check_places(folders)

    def _name(self, home: str, system: System) -> None:
        """Takes the label from the files where the folder is not named as one."""
        if looks_like_label(system.label):
            return
        for entry in [*system.metas, *system.outputs]:
            label = entry.name.partition(".")[0]
            if looks_like_label(label):
                message = f"the folder is named {quoted(system.label)}, its files {quoted(label)}"
                check = "package-extra" if not home else "package-layout"  # PATH itself: tolerated
                self._add(check, home, message, f"name the folder {label}")
                system.label = label
                return

    def _home(self, folder: str) -> str | None:
        """The label folder that a file belongs to, or None: the innermost that looks like one."""
        parts = folder.split("/") if folder else []
        for end in range(len(parts), 0, -1):
            if parse_label(parts[end - 1]) or looks_like_label(parts[end - 1]):
                return "/".join(parts[:end])
        name = self.path.absolute().name
        if self.kind == "folder":
            if looks_like_label(name):
                return ""
            if not parts:  # PATH is the label folder itself, whatever it is called
                return None if name in _TASK_FOLDERS or self._holds_labels else ""
        if len(parts) >= 2 and parts[-2] in _TASK_FOLDERS:
            return folder
        if len(parts) == 1 and self.kind == "folder" and name in _TASK_FOLDERS:
            return folder
        return None

    @cached_property
    def _holds_labels(self) -> bool:
        """Whether a folder has label folders, or `task1`, right below it."""
        return any(
            child.is_dir() and (child.name in _TASK_FOLDERS or looks_like_label(child.name))
            for child in self.path.iterdir()
        )

    def _check_places(self, folders: Mapping[str, System]) -> None:
        """A zip is sent in: there the label folders must stand in task1."""
        if self.kind != "zip":
            return
        for home in folders:
            above = home.split("/")[:-1]
            if not above or above[-1] not in _TASK_FOLDERS:
                message = f"the label folder stands in {quoted('/'.join(above) or 'the top')}"
                fix = "put label folders into task1/"
                self._add("package-layout", home, message, fix)
            elif len(above) > 1:
                message = f"task1 stands in a further folder {quoted('/'.join(above[:-1]))}"
                fix = "zip the folder task1 itself, so that it stands at the top"
                self._add("package-extra", home, message, fix)

    def _add(self, check: str, inner: str, message: str, fix: str) -> None:
        self.problems.append(Problem(check, self._shown(inner), message, fix))


def _kind_of(system: System, entry: Entry) -> list[Entry]:
    """The list of a system that a file belongs to."""
    name = entry.name.lower()
    if name.endswith((".meta.yaml", ".meta.yml")) or (
        name.endswith((".yaml", ".yml")) and "meta" in name
    ):
        return system.metas
    if ".output" in name or (name.endswith(".csv") and "output" in name):
        return system.outputs
    if PurePosixPath(name).suffix in MODEL_SUFFIXES:
        return system.models
    return system.others


def open_package(path: Path) -> Package:
    """Opens a package; use it as a context manager.

    Args:
        path: a label folder, a folder that holds label folders (or `task1`), or a zip archive.
    """
    return Package(path)
