"""The plain record of an audited file: what JSON shows and what every other format is made from.

Identical input gives an identical record: no time, no machine, no absolute path of its own making.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import compressor
from compressor.audit.records import AuditResult
from compressor.audit.verdict import Verdict
from compressor.errors import ModelFileError

__all__ = ["SCHEMA", "document", "dumps", "error_record", "file_record", "sha256_of"]

SCHEMA = 1  # goes up when a key changes its meaning or goes away, not when one is added


def file_record(
    path: str | os.PathLike[str], result: AuditResult, verdicts: Iterable[Verdict]
) -> dict[str, object]:
    """Returns everything known about one audited file as plain JSON-able Python.

    Args:
        path: the file as the user named it, or a "module:factory" that is no file (no SHA-256
            and no size then).
        result: of the audit of that file.
        verdicts: of the rules it was compared with; may be none.

    Returns:
        `file`, `sha256`, `file_bytes`, `status`, `convention`, `input_shape`, `verdicts` and
        `audit` (all figures, with the rows of the layers).

    Raises:
        ModelFileError: the file has gone since it was audited.
    """
    digest, size = sha256_of(path)
    return {
        "file": os.fspath(path),
        "sha256": digest,
        "file_bytes": size,
        "status": result.status,
        "convention": result.convention,
        "input_shape": list(result.input_shape),
        "verdicts": [verdict.to_dict() for verdict in verdicts],
        "audit": result.to_dict(),
    }


def error_record(path: str | os.PathLike[str], error: Exception) -> dict[str, object]:
    """Returns the record of a file that could not be measured."""
    return {"file": os.fspath(path), "status": "error", "error": str(error)}


def document(files: Iterable[Mapping[str, object]], **more: object) -> dict[str, object]:
    """Wraps file records: schema version, version of this program, and `more` keys in front."""
    return {
        "schema": SCHEMA,
        "versions": {"compressor": compressor.__version__},
        **more,
        "files": [dict(record) for record in files],
    }


def sha256_of(path: str | os.PathLike[str]) -> tuple[str | None, int | None]:
    """Returns the SHA-256 in hexadecimal digits and the size in bytes; None for no file.

    Raises:
        ModelFileError: the file cannot be read.
    """
    file = Path(path)
    try:
        if not file.is_file():
            return None, None
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return digest, stream.tell()
    except OSError as error:
        raise ModelFileError(f"{file.name}: cannot be read: {error.strerror or error}") from error


def dumps(record: Mapping[str, object]) -> str:
    """Returns indented JSON that is harmless on a terminal and safe to encode as UTF-8.

    Control characters, right-to-left marks, the lone surrogates of undecodable file names and what
    a CI log takes for a command ("##[", anywhere in a line) are written as JSON escapes; they mean
    the same to a program that reads them.
    """
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    text = text.replace("##[", "#\\u0023[")
    if text.replace("\n", "").isprintable():
        return text
    return "".join(char if char == "\n" or char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return json.dumps(char)[1:-1]
