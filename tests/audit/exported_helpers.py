"""Exported programs for the tests, and changes to their archives."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn


def export(module: nn.Module, path: Path, *inputs: Any, dynamic: Any = None) -> Path:
    """Writes a `.pt2` of a module run on some inputs, as torch.export.save does."""
    with warnings.catch_warnings():
        # torch warns of recurrent layers' lists of weights, and of deprecated parts of its own
        warnings.simplefilter("ignore")
        program = torch.export.export(module.eval(), inputs, dynamic_shapes=dynamic)
        torch.export.save(program, path)
    return path


def rewritten(
    source: Path,
    target: Path,
    *,
    model: Callable[[dict[str, Any]], None] | None = None,
    weights: Callable[[dict[str, Any]], None] | None = None,
    member: Callable[[str, bytes], bytes | None] | None = None,
) -> Path:
    """Copies an archive with its program, its table of weights or its members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data: bytes | None = old.read(info)
            assert data is not None
            for ending, change in (
                ("models/model.json", model),
                ("data/weights/model_weights_config.json", weights),
            ):
                if info.filename.endswith(ending) and change is not None:
                    tree = json.loads(data)
                    change(tree)
                    data = json.dumps(tree).encode()
            if member is not None:
                data = member(info.filename, data)
            if data is not None:
                new.writestr(info.filename, data)
    return target
