"""From sounds to scenes: against a computation of its own, and with clips that are broken."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from compressor.cli.predict import predict as predict_command
from compressor.deploy.predict import find_clips, open_network, predict_files
from compressor.errors import DataError, ModelFileError
from compressor.export.description import Description

RATE_HZ = 8_000
MEAN, STD = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 4.0, 8.0])


def noise(seconds: float, level: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return level * rng.standard_normal(round(seconds * RATE_HZ))


def expected(sound: np.ndarray, description: Description) -> np.ndarray:
    """Probabilities of half a second: the network's logits are -m and +m, m the mean feature."""
    features = description.log_mel()(sound.astype(np.float32)).astype(np.float16)
    standard = (features[0].astype(np.float64) - MEAN[:, None]) / STD[:, None]
    loud = 1.0 / (1.0 + np.exp(-2.0 * standard.mean()))
    return np.array([1.0 - loud, loud])


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for i, level in enumerate([0.001, 0.9]):
        soundfile.write(folder / f"{i}.wav", noise(0.5, level, i), RATE_HZ, subtype="FLOAT")
    return folder


def test_probabilities_are_those_of_the_features(
    clips: Path, mean_network: Path, description: Description
) -> None:
    network = open_network(mean_network)
    paths = [clips / "0.wav", clips / "1.wav"]
    found = list(predict_files(network, paths, workers=1))
    for one, path in zip(found, paths, strict=True):
        sound, _ = soundfile.read(path, dtype="float32")
        np.testing.assert_allclose(one.probabilities, expected(sound, description), rtol=1e-5)
        assert (one.path, one.pieces, one.error) == (path, 1, "")
    assert [network.classes[one.label] for one in found] == ["quiet", "loud"]


def test_long_recordings_are_averaged_over_their_pieces(
    tmp_path: Path, mean_network: Path, description: Description
) -> None:
    """1.7 s are three whole pieces of 0.5 s; the rest is left out."""
    sound = np.concatenate([noise(0.5, 0.001, 1), noise(0.5, 0.9, 2), noise(0.7, 0.5, 3)])
    path = tmp_path / "long.wav"
    soundfile.write(path, sound, RATE_HZ, subtype="FLOAT")
    (found,) = predict_files(open_network(mean_network), [path])
    stored, _ = soundfile.read(path, dtype="float32")
    pieces = [expected(stored[i : i + 4000], description) for i in (0, 4000, 8000)]
    assert found.pieces == 3
    np.testing.assert_allclose(found.probabilities, np.mean(pieces, axis=0), rtol=1e-5)


def test_short_recordings_get_zeros(
    tmp_path: Path, mean_network: Path, description: Description
) -> None:
    path = tmp_path / "short.wav"
    soundfile.write(path, noise(0.2, 0.5), RATE_HZ, subtype="FLOAT")
    (found,) = predict_files(open_network(mean_network), [path])
    stored, _ = soundfile.read(path, dtype="float32")
    padded = np.concatenate([stored, np.zeros(4000 - len(stored))])
    np.testing.assert_allclose(found.probabilities, expected(padded, description), rtol=1e-5)


def test_broken_recordings_cost_only_themselves(clips: Path, mean_network: Path) -> None:
    (clips / "2.wav").write_bytes(b"RIFF nonsense")
    (clips / "3.wav").write_bytes(b"")
    soundfile.write(clips / "4.wav", np.zeros((4000, 3)), RATE_HZ)
    bad = noise(0.5, 0.1).astype(np.float32)
    bad[7] = np.nan
    soundfile.write(clips / "5.wav", bad, RATE_HZ, subtype="FLOAT")
    (clips / "6.wav").write_bytes((clips / "1.wav").read_bytes())
    names = [f"{i}.wav" for i in range(7)]
    found = list(
        predict_files(open_network(mean_network), [clips / n for n in names], batch_size=2)
    )
    assert [one.path.name for one in found] == names
    assert [bool(one.error) for one in found] == [False, False, True, True, True, True, False]
    for one in found:
        if one.error:
            assert str(one.path) in one.error
            assert "\n" not in one.error
    assert found[6].probabilities == pytest.approx(found[1].probabilities)


def test_folders_are_sorted_by_number(tmp_path: Path) -> None:
    for name in ("10.wav", "2.wav", "sub/1.flac", "readme.txt", ".hidden.wav", "a2b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [name for _, name in find_clips([tmp_path])] == [
        "2.wav",
        "10.wav",
        "a2b.wav",
        "sub/1.flac",
    ]
    with pytest.raises(DataError, match="does not exist"):
        find_clips([tmp_path / "no.wav"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no recordings"):
        find_clips([tmp_path / "empty"])


def test_files_that_do_not_describe_themselves(
    tmp_path: Path, write_mean: Callable[..., Path]
) -> None:
    with pytest.raises(ModelFileError, match="neither front-end nor classes"):
        open_network(write_mean(tmp_path / "bare.onnx", None))
    with pytest.raises(ModelFileError, match="does not exist"):
        open_network(tmp_path / "no.onnx")


def test_classes_without_names_are_numbers(
    tmp_path: Path, write_mean: Callable[..., Path], description: Description
) -> None:
    path = write_mean(tmp_path / "n.onnx", dataclasses.replace(description, classes=()))
    assert open_network(path).classes == ("0", "1")


def invoke(*arguments: object) -> tuple[int, str, str]:
    app = typer.Typer()
    app.command()(predict_command)
    found = CliRunner().invoke(app, [str(one) for one in arguments])
    return found.exit_code, found.stdout, found.stderr


def test_output_file_of_a_folder(clips: Path, mean_network: Path, tmp_path: Path) -> None:
    (clips / "2.wav").write_bytes(b"RIFF nonsense")
    out = tmp_path / "output.csv"
    code, stdout, stderr = invoke(mean_network, clips, "--out", out)
    assert code == 3
    assert stdout == f"{out}\n"
    assert f"error: {clips / '2.wav'} cannot be read" in stderr
    assert "1 of 3 recordings have no prediction" in stderr
    assert "clips 3/3" in stderr
    rows = list(csv.reader(io.StringIO(out.read_text()), delimiter="\t"))
    assert rows[0] == ["filename", "scene_label", "quiet", "loud"]
    assert [row[:2] for row in rows[1:]] == [["0.wav", "quiet"], ["1.wav", "loud"]]
    for row in rows[1:]:
        assert sum(map(float, row[2:])) == pytest.approx(1.0, abs=1e-8)


def test_lines_for_single_clips(clips: Path, mean_network: Path) -> None:
    code, stdout, _ = invoke(mean_network, clips / "1.wav")
    assert code == 0
    name, scene, share = stdout.strip().split("\t")
    assert (name, scene) == ("1.wav", "loud")
    assert 0.5 < float(share) <= 1.0


def test_table_on_standard_output(clips: Path, mean_network: Path) -> None:
    code, stdout, _ = invoke(mean_network, clips, "--out", "-")
    assert code == 0
    assert [line.split("\t")[0] for line in stdout.splitlines()] == ["filename", "0.wav", "1.wav"]
