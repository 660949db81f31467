"""Broken and hostile HDF5 and Keras files: one clear line, nothing executed, bounded work."""

from __future__ import annotations

import json
import pickle
import random
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras_helpers import baseline, chain, layer, numbered, ones, save_h5, save_keras

import compressor
from compressor.errors import ModelFileError


def refused(path: Path, match: str) -> str:
    start = time.process_time()
    with pytest.raises(ModelFileError, match=match) as caught:
        compressor.audit(path)
    assert time.process_time() - start < 5
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 600
    assert text.startswith(path.name)
    assert caught.value.exit_code == 3
    return text


def simple(path: Path) -> Path:
    config = chain(
        [layer("InputLayer", "in", batch_input_shape=[None, 6]), layer("Dense", "d", units=4)]
    )
    return save_h5(path, {"d": {"kernel": ones(6, 4), "bias": ones(4)}}, config)


def test_the_made_file_is_fine_before_it_is_broken(tmp_path: Path) -> None:
    assert compressor.audit(simple(tmp_path / "a.h5")).macs == 24


@pytest.mark.parametrize("kind", ["soft", "external"])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_links_to_elsewhere(kind: str, libver: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["w"] = ones(3)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver=libver) as file:
        file["w"] = ones(3)
        file["x"] = h5py.SoftLink("/w") if kind == "soft" else h5py.ExternalLink(str(secret), "/w")
    refused(path, "soft link|soft or external link")


def test_data_that_lies_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "raw.bin").write_bytes(bytes(40))
    path = tmp_path / "external.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (10,), "f4", external=[(str(tmp_path / "raw.bin"), 0, 40)])
    refused(path, "lies in another file")
    path = tmp_path / "virtual.h5"
    with h5py.File(path, "w", libver="latest") as file:
        layout = h5py.VirtualLayout((10,), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "w", (10,))
        file.create_virtual_dataset("w", layout)
    refused(path, "virtual dataset")


def test_what_could_blow_up(tmp_path: Path) -> None:
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (1 << 20, 1 << 10), "f4", chunks=(1 << 10, 1 << 10))
    refused(path, "chunked dataset")
    with h5py.File(path, "w") as file:
        file.create_dataset("w", data=np.zeros(10_000, "f4"), compression="gzip")
    refused(path, "compressed or filtered")
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (1 << 40,), "f4")  # declared, never written
    refused(path, "never written")


def test_dense_groups_are_refused_with_their_name(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for i in range(40):
            file[f"w{i}"] = ones(1)
    refused(path, "newer, dense layout")


def test_files_that_are_not_of_keras(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_group("empty")
    refused(path, "without the weights of a Keras model")
    with h5py.File(path, "w") as file:
        file["names"] = np.array([b"a", b"bc"])
    refused(path, "number type that is not read")
    with h5py.File(path, "w") as file:
        file["table"] = np.zeros(3, [("a", "f4"), ("b", "i4")])
    refused(path, "number type that is not read")


def test_lists_of_weights_that_are_not_there(tmp_path: Path) -> None:
    path = save_h5(tmp_path / "a.h5", {"d": {"kernel": ones(2)}})
    with h5py.File(path, "r+") as file:
        file["d"].attrs["weight_names"] = [b"d/kernel:0", b"d/bias:0"]
    refused(path, "'d/bias:0' of layer 'd' is listed but not stored")
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = [b"d", b"e"]
        file["d"].attrs["weight_names"] = [b"d/kernel:0"]
    refused(path, "'e' is listed but not stored")


def test_groups_in_a_circle_and_groups_that_multiply(tmp_path: Path) -> None:
    path = tmp_path / "circle.h5"
    with h5py.File(path, "w") as file:
        file["a/w"] = ones(1)
        file["a/again"] = file["a"]
    refused(path, "circle|records")
    path = tmp_path / "many.h5"  # 20 levels of two links each to the next: 2 ** 20 paths
    with h5py.File(path, "w") as file:
        group = file
        for _ in range(20):
            below = group.create_group("x")
            group["y"] = below
            group = below
        group["w"] = ones(1)
    refused(path, "records")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", None),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not JSON"),
        ('{"a": ' * 50_000, "not JSON"),
        ('{"class_name": "Model", "config": ' + "[" * 400 + "]" * 400 + "}", "no object|no layers"),
        ("{}", "no class name"),
        ('{"class_name": "Sequential", "config": {"layers": {}}}', "lists no layers"),
        ("9" * 5_000, "not JSON"),
        ("NaN", "not a JSON object"),
    ],
)
def test_configurations_that_are_none(text: str, match: str | None, tmp_path: Path) -> None:
    path = save_h5(tmp_path / "a.h5", {"d": {"kernel": ones(2)}})
    with h5py.File(path, "r+") as file:
        file.attrs["model_config"] = text
    if match is None:
        assert compressor.audit(path).params == 2
    else:
        refused(path, match)
    archive = tmp_path / "a.keras"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("config.json", text if len(text) < 1_000 else text[:900])
        out.writestr("model.weights.h5", numbered({"layers/dense": [ones(2)]}))
    if match is not None:
        refused(archive, f"{match}|not JSON|not a JSON object")


def test_archives_are_checked_as_all_others(tmp_path: Path) -> None:
    config: dict[str, Any] = {"class_name": "Sequential", "config": {"layers": []}}
    good = save_keras(tmp_path / "a.keras", config, numbered({"layers/dense": [ones(2)]}))
    for name, match in (("../evil", "points outside"), ("config.json", "appears twice")):
        path = tmp_path / "b.keras"
        path.write_bytes(good.read_bytes())
        with zipfile.ZipFile(path, "a") as archive:
            if name == "config.json":
                with pytest.warns(UserWarning, match="Duplicate"):
                    archive.writestr(name, "x")
            else:
                archive.writestr(name, "x")
        refused(path, match)
    bomb = tmp_path / "bomb.keras"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(50 << 20))
    refused(bomb, "suspicious size")
    broken = save_keras(tmp_path / "c.keras", config, b"\x89HDF\r\n\x1a\n" + bytes(100))
    refused(broken, "HDF5")


class Canary:
    """Creates a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.path,)


def test_nothing_is_unpickled_or_imported(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = pickle.dumps(Canary(canary)).hex()
    config = chain(
        [
            layer("InputLayer", "in", batch_input_shape=[None, 6]),
            layer("Lambda", "l", function=[payload, None, None], module="os"),
            {**layer("Dense", "d", units=4), "module": "os", "registered_name": "system"},
        ]
    )
    result = compressor.audit(save_h5(tmp_path / "a.h5", {"d": {"kernel": ones(6, 4)}}, config))
    assert result.params == 24
    assert not canary.exists()
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.h5"]


def test_names_come_out_harmless(tmp_path: Path) -> None:
    evil = "a\x1b[31m\u202e::error::<script>"
    path = save_h5(tmp_path / "a.h5", {evil: {"kernel": ones(2)}})
    refused(path, "is not a plain name")
    config = chain([layer("InputLayer", evil, batch_input_shape=[None, 6])])
    refused(save_h5(tmp_path / "b.h5", {"d": {"kernel": ones(2)}}, config), "name of a layer")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = simple(tmp_path / "a.h5").read_bytes()
    path = tmp_path / "cut.h5"
    for size in range(8, len(data) - 1, 97):
        path.write_bytes(data[:size])
        refused(path, "cut.h5: ")


def test_superblocks_that_lie(tmp_path: Path) -> None:
    good = simple(tmp_path / "a.h5").read_bytes()
    path = tmp_path / "b.h5"
    for at, value, match in (
        (8, b"\x09", "superblock version 9"),
        (13, b"\x04", "not 8 bytes wide"),
        (24, b"\x01", "base address"),
        (40, struct.pack("<Q", 1 << 60), "truncated"),
        (64, struct.pack("<Q", 1 << 60), "at byte"),
        (64, struct.pack("<Q", 0), "no object at byte 0"),
    ):
        data = bytearray(good)
        data[at : at + len(value)] = value
        path.write_bytes(data)
        refused(path, match)


def test_datasets_that_share_bytes(tmp_path: Path) -> None:
    """Many datasets on the same bytes would make much work out of a small file."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["w0"] = np.ones(4_096, "f4")
        for i in range(1, 6):
            file.create_dataset(f"w{i}", (4_096,), "f4")  # no place in the file yet
        place = file["w0"].id.get_offset()
    data = path.read_bytes()
    assert len(data) < 2 * 16_384
    nowhere, first = (struct.pack("<QQ", at, 16_384) for at in ((1 << 64) - 1, place))
    assert data.count(nowhere[:8]) >= 5
    at = 0
    while (at := data.find(b"\x03\x01" + nowhere[:8], at)) >= 0:  # contiguous layouts
        data = data[: at + 2] + first + data[at + 18 :]
    path.write_bytes(data)
    refused(path, "overlap")


def test_random_damage_never_gives_a_traceback(tmp_path: Path) -> None:
    config, weights = baseline([4], [(4, 4)], [3], 8)
    save_h5(tmp_path / "a.h5", weights, config)
    (tmp_path / "b.h5").write_bytes(numbered({"layers/dense": [ones(6, 4), ones(4)]}))
    with h5py.File(tmp_path / "c.h5", "w", libver="latest") as file:
        file["layers/dense/vars/0"] = ones(6, 4)
    chance = random.Random(1)
    path = tmp_path / "flip.h5"
    for source in ("a.h5", "b.h5", "c.h5"):
        good = (tmp_path / source).read_bytes()
        used = [at for at in range(8, len(good) - 8) if any(good[at : at + 8])]
        for _ in range(300):
            data = bytearray(good)
            for _ in range(chance.choice((1, 1, 3))):
                at = chance.choice(used)
                kind = chance.randrange(4)
                if kind == 0:
                    data[at] ^= 1 << chance.randrange(8)
                elif kind == 1:
                    data[at : at + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f"))
                elif kind == 2:
                    other = chance.choice(used)
                    data[at : at + 8] = data[other : other + 8]
                else:
                    data[at : at + 8] = b"\xff" * 8
            path.write_bytes(data)
            try:
                compressor.audit(path)
            except ModelFileError as error:
                assert str(error).isprintable()
                assert len(str(error)) < 600


def test_memory_stays_bounded(tmp_path: Path) -> None:
    """Under a limit of 1 GiB on the whole process."""
    simple(tmp_path / "good.h5")
    with h5py.File(tmp_path / "shape.h5", "w") as file:
        file.create_dataset("w", (1 << 40,), "f4")
    save_h5(
        tmp_path / "wide.h5",
        {"d": {"kernel": ones(2)}},
        chain(
            [
                layer("InputLayer", "in", batch_input_shape=[None, 1 << 30, 1 << 30]),
                layer("Flatten", "f"),
            ]
        ),
    )
    lists = json.dumps({"class_name": "Model", "config": {"layers": [[]] * 1_500_000}})
    with zipfile.ZipFile(tmp_path / "lists.keras", "w") as archive:
        archive.writestr("config.json", lists)
        archive.writestr("model.weights.h5", numbered({"layers/dense": [ones(2)]}))
    names = [str(tmp_path / n) for n in ("shape.h5", "wide.h5", "lists.keras", "good.h5")]
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from compressor.audit import audit\n"
        "from compressor.errors import ModelFileError\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(audit(name).params)\n"
        "    except ModelFileError as error: print('refused')\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == ["refused", "refused", "refused", "28"]
