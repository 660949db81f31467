"""A file that cannot be written is refused before anything is computed for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from compressor.cli.compress_run import run_recipe
from compressor.cli.targets import check_target
from compressor.cli.train import train
from compressor.errors import UsageError
from compressor.recipe import Cast, Recipe


def test_new_files_and_files_that_are_there_may_be_written(tmp_path: Path) -> None:
    check_target(tmp_path / "new" / "folder" / "model.pt")
    (tmp_path / "old.pt").write_bytes(b"old")
    check_target(tmp_path / "old.pt")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["old.pt"]


def test_a_folder_and_a_file_on_the_way_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="is a folder; name a file in it, such as"):
        check_target(tmp_path)
    with pytest.raises(UsageError, match="file is a file; name another path"):
        check_target(tmp_path / "file" / "model.pt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="is read-only"):
        check_target(tmp_path / "model.pt")


def test_train_refuses_before_it_opens_the_data(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(train)
    result = CliRunner().invoke(app, [str(tmp_path), "--data", "/nowhere/at/all"])
    assert isinstance(result.exception, UsageError)
    assert "is a folder" in str(result.exception)


def test_compress_refuses_before_it_reads_the_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        run_recipe(
            "small", tmp_path / "none.pt", Recipe((Cast(dtype="float16"),)), out=tmp_path,
            data=None, fold=None, cache=None, threads=None, output="text",
        )  # fmt: skip
