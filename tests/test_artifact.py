"""The model file: exact round trip for every network, and one clear line for every broken file."""

from __future__ import annotations

import pickle
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import compressor
import zoo
from compressor.artifact import FORMAT, FORMAT_VERSION, Artifact, from_model, load, save
from compressor.errors import ArtifactError, CompressorError
from compressor.methods import Slimming, slim

ARGS = {"mels": 8, "frames": 16}
SHAPE = (1, 8, 16)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return zoo.build("seresnet18", 3, **ARGS).eval()


def describe(model: nn.Module, **changes: Any) -> Artifact:
    settings: dict[str, Any] = {
        "arch": "seresnet18",
        "arch_args": ARGS,
        "num_classes": 3,
        "classes": ("bus", "metro", "park"),
        "input_shape": SHAPE,
        "layout": "CFT",
        "front_end": {"name": "speakin2021", "n_mels": 8, "f_max_hz": None},
        "standardizer": {"mean": ((0.5, 1.5),), "std": ((1.0, 2.0),)},
        "history": [{"step": "train", "epochs": [{"loss": 1.25}]}],
        "metrics": {"test": {"accuracy": 0.75}},
        "provenance": {"seed": 1},
    }
    return from_model(model, **(settings | changes))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.pt"
    save(describe(network()), path)
    return path


def smallest(name: str) -> tuple[dict[str, int], tuple[int, int, int]]:
    """Arguments and shape of a small input that the network takes."""
    entry = zoo.entry(name)
    mels, frames = entry.input_shape[1:] if entry.layout == "CFT" else entry.input_shape[:0:-1]
    for share in (8, 5, 4, 2, 1):
        args = {"mels": mels // share, "frames": max(32, frames // share)}
        pair = (args["mels"], args["frames"])
        shape = (entry.input_shape[0], *(pair if entry.layout == "CFT" else pair[::-1]))
        try:
            with torch.no_grad():
                zoo.build(name, **args).eval()(torch.zeros(1, *shape))
        except (CompressorError, RuntimeError):
            continue
        return args, shape
    raise AssertionError(name)


@pytest.mark.parametrize("name", zoo.list_models())
def test_round_trip_is_exact(name: str, tmp_path: Path) -> None:
    """Difference 0 for every network, as built and pruned by half, in both number types."""
    args, shape = smallest(name)
    entry = zoo.entry(name)
    torch.manual_seed(1)
    model = zoo.build(name, 4, **args).eval()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    x = torch.randn(2, *shape)
    pruned = slim(model, x, Slimming(0.5), ignored=entry.ignored_layers).model
    for number, one in enumerate((model, pruned)):
        artifact = describe(
            one,
            arch=name,
            arch_args=args,
            num_classes=4,
            classes=("a", "b", "c", "d"),
            input_shape=shape,
            layout=entry.layout,
            dtype=("float32", "float16")[number] if name == "dsmn" else "float32",
        )
        path = tmp_path / f"{number}.pt"
        save(artifact, path)
        rebuilt = load(path).build()
        assert not rebuilt.training
        original = one.half().float() if artifact.dtype == "float16" else one
        with torch.no_grad():
            assert (rebuilt(x) - original(x)).abs().max() == 0
        # the sizes that the layers state are those of their tensors
        for (_, mine), theirs in zip(rebuilt.named_modules(), one.modules(), strict=True):
            assert mine.extra_repr() == theirs.extra_repr()


def test_everything_comes_back(saved: Path) -> None:
    artifact = load(saved)
    assert artifact.arch == "seresnet18"
    assert artifact.arch_args == ARGS
    assert artifact.classes == ("bus", "metro", "park")
    assert (artifact.input_shape, artifact.layout, artifact.num_classes) == (SHAPE, "CFT", 3)
    assert artifact.front_end == {"name": "speakin2021", "n_mels": 8, "f_max_hz": None}
    assert artifact.standardizer == {"mean": ((0.5, 1.5),), "std": ((1.0, 2.0),)}
    assert artifact.history == ({"step": "train", "epochs": [{"loss": 1.25}]},)
    assert artifact.metrics == {"test": {"accuracy": 0.75}}
    assert artifact.provenance == {"seed": 1}
    # a float network is written in the first format, which older versions read too
    assert (artifact.format_version, artifact.dtype) == (1, "float32")
    assert FORMAT_VERSION == 3
    assert artifact.graph["ops"]
    assert set(artifact.state_dict) == set(network().state_dict())


def test_file_is_plain_data_and_reproducible(saved: Path, tmp_path: Path) -> None:
    record = torch.load(saved, weights_only=True)
    assert record["format"] == FORMAT
    assert record["made_with"] == compressor.__version__
    again = tmp_path / "other name.pt"
    save(load(saved), again)
    assert again.read_bytes() == saved.read_bytes()


def test_float16_halves_the_weights(tmp_path: Path) -> None:
    model = network()
    half = describe(model, dtype="float16")
    assert half.dtype == "float16"
    for name, tensor in half.state_dict.items():
        assert tensor.dtype in (torch.float16, torch.int64), name
    assert half.state_dict["stem.1.running_var"].dtype == torch.float16
    save(half, tmp_path / "half.pt")
    rebuilt = load(tmp_path / "half.pt").build()
    assert all(p.dtype == torch.float32 for p in rebuilt.parameters())
    assert torch.equal(rebuilt.fc.weight, model.fc.weight.half().float())
    with torch.no_grad():
        model.fc.weight[0, 0] = 1e5
    with pytest.raises(
        ArtifactError, match=r"'fc\.weight' reaches 1e\+05, beyond the largest float16 of 65504"
    ):
        describe(model, dtype="float16")


def test_building_leaves_the_random_state_and_the_model_alone(saved: Path) -> None:
    artifact = load(saved)
    state = torch.get_rng_state()
    one, two = artifact.build(), artifact.build()
    assert torch.equal(state, torch.get_rng_state())
    with torch.no_grad():
        one.fc.weight.zero_()
    assert two.fc.weight.abs().sum() > 0
    assert artifact.state_dict["fc.weight"].abs().sum() > 0
    model = network().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    artifact = describe(model)
    assert model.training
    artifact.state_dict["fc.weight"].zero_()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_numpy_values_and_paths_become_plain(tmp_path: Path) -> None:
    metrics = {"a": np.float64(0.5), "b": np.int64(3), "c": np.array([1.5]), "d": tmp_path}
    artifact = describe(network(), metrics=metrics | {"e": torch.tensor(2.0), "f": True})
    expected = {"a": 0.5, "b": 3, "c": [1.5], "d": str(tmp_path), "e": 2.0, "f": True}
    assert artifact.metrics == expected
    assert [type(v) for v in artifact.metrics.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "seresnet19"}, r"unknown network 'seresnet19'; did you mean .*seresnet18"),
        ({"arch": "resnet18"}, r"'layers\.0\.se\.fc1\.weight'.* not in network 'resnet18'"),
        ({"arch_args": {"mels": 8, "frames": 16, "blocks": (1, 1, 1, 1)}}, "but not in network"),
        ({"arch_args": {"colour": 1}}, "unknown argument of network seresnet18 'colour'"),
        ({"arch_args": {"num_classes": 4}}, "other num_classes than 3"),
        ({"num_classes": 0}, "'num_classes' of a model file is '0'"),
        ({"classes": ("bus",)}, "'classes' .* must be a tuple of 3 names"),
        ({"input_shape": (1, 1, 8, 16)}, "'input_shape'"),
        ({"input_shape": (1, 9, 16)}, "9 mel bands"),
        ({"layout": "TFC"}, "'layout' .* must be CFT or CTF"),
        ({"metrics": {"f": object()}}, r"metrics\.f of a model file is a object"),
        ({"history": [{"a": [len]}]}, r"history\[0\]\.a\[0\]"),
        ({"dtype": "int8"}, "cannot be stored as 'int8'"),
    ],
)
def test_what_cannot_be_described(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        describe(network(), **changes)


def test_weights_that_are_not_finite_are_not_stored() -> None:
    model = network()
    with torch.no_grad():
        model.fc.bias[1] = float("nan")
    with pytest.raises(ArtifactError, match=r"'fc\.bias' holds values that are not finite"):
        describe(model)


def one_line(path: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def test_paths_that_hold_no_model(tmp_path: Path) -> None:
    assert "No such file" in one_line(tmp_path / "none.pt")
    assert "is a folder" in one_line(tmp_path)
    empty = tmp_path / "empty.pt"
    empty.touch()
    assert "is empty" in one_line(empty)
    text = tmp_path / "notes.pt"
    text.write_text("not a model")
    assert "not a model file of compressor" in one_line(text)
    legacy = tmp_path / "legacy.pt"
    torch.save({"a": torch.zeros(1)}, legacy, _use_new_zipfile_serialization=False)
    assert "not a model file of compressor" in one_line(legacy)
    archive = tmp_path / "archive.pt"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("hello.txt", "hello")
    assert "not a model file of compressor" in one_line(archive)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "foreign.pt"
    torch.save(network(), path)
    assert "Python objects" in one_line(path)
    torch.save(network().state_dict(), path)
    assert "a plain state dict" in one_line(path)
    torch.save({"model": network().state_dict(), "epoch": 3}, path)
    assert "a checkpoint of another program" in one_line(path)
    torch.save([1, 2], path)
    assert "but a list" in one_line(path)


def test_hostile_pickle_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (mark,))

    path = tmp_path / "hostile.pt"
    torch.save({"format": FORMAT, "x": Hostile()}, path)
    assert "was not loaded" in one_line(path)
    path.write_bytes(pickle.dumps(Hostile()))
    one_line(path)
    assert not mark.exists()


def test_newer_and_broken_versions(saved: Path, tmp_path: Path) -> None:
    record = torch.load(saved, weights_only=True)
    path = tmp_path / "changed.pt"
    torch.save(record | {"format_version": 7, "made_with": "9.8"}, path)
    message = one_line(path)
    assert "written by compressor 9.8 in format 7" in message
    assert compressor.__version__ in message
    assert "upgrade" in message
    for version in (0, "1", None):
        torch.save(record | {"format_version": version}, path)
        assert "format_version" in one_line(path)
    torch.save({k: v for k, v in record.items() if k not in ("layout", "graph")}, path)
    assert "graph, layout missing" in one_line(path)
    torch.save(record | {"classes": ("a", "b")}, path)
    assert "'classes'" in one_line(path)
    torch.save(record | {"metrics": {"test": {"accuracy": 0.99}}}, path)
    assert "checksum" in one_line(path)
    changed = dict(record["state_dict"])
    changed["fc.bias"] = changed["fc.bias"] + 1e-3
    torch.save(record | {"state_dict": changed}, path)
    assert "checksum" in one_line(path)


def test_truncated_and_flipped_files_are_found(saved: Path, tmp_path: Path) -> None:
    content = saved.read_bytes()
    path = tmp_path / "damaged.pt"
    for share in (0.01, 0.3, 0.9, 0.999):
        path.write_bytes(content[: int(len(content) * share)])
        assert "damaged" in one_line(path)
    draw = random.Random(0)
    original = load(saved)
    found = 0
    for _ in range(60):
        broken = bytearray(content)
        broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        path.write_bytes(broken)
        try:
            same = load(path)
        except ArtifactError as error:
            assert re.search(r"damaged|not a model file|Python objects", str(error))
            found += 1
            continue
        # a bit of the archive's own bookkeeping: what was loaded is the original
        assert same.metrics == original.metrics
        for name, tensor in same.state_dict.items():
            assert torch.equal(tensor, original.state_dict[name])
    assert found > 20


def test_saving_is_all_or_nothing(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = saved.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ArtifactError, match=r"model\.pt cannot be written: No space left"):
        save(describe(network(1)), saved)
    monkeypatch.undo()
    assert saved.read_bytes() == content
    assert [p.name for p in saved.parent.iterdir()] == ["model.pt"]
    with pytest.raises(ArtifactError, match="No such file"):
        save(load(saved), tmp_path / "no folder" / "model.pt")


def test_stored_shapes_that_pruning_cannot_explain(saved: Path) -> None:
    artifact = load(saved)
    tensors = artifact.state_dict

    def rebuilt(**changes: torch.Tensor) -> nn.Module:
        names = {k.replace("__", "."): v for k, v in changes.items()}
        fields = {**vars(artifact), "state_dict": tensors | names}
        return Artifact(**fields).build()

    with pytest.raises(ArtifactError, match=r"'fc\.weight' is stored as \(3, 32, 1\)"):
        rebuilt(fc__weight=tensors["fc.weight"].unsqueeze(2))
    with pytest.raises(ArtifactError, match=r"'stem\.0\.weight' is stored as \(8, 1, 5, 5\)"):
        rebuilt(stem__0__weight=torch.zeros(8, 1, 5, 5))
    # each layer is possible, but they do not fit together
    with pytest.raises(ArtifactError, match="cannot be rebuilt"):
        rebuilt(fc__weight=torch.zeros(3, 31))
    missing = {k: v for k, v in tensors.items() if k != "fc.bias"}
    with pytest.raises(ArtifactError, match=r"fc\.bias"):
        Artifact(**{**vars(artifact), "state_dict": missing}).build()


def test_resize_covers_grouped_and_transposed_convolutions() -> None:
    """Layers no network of the zoo has yet, through the function that reads the shapes."""
    from compressor.rebuild import resize as _resize

    def pair(make: Any, small: Any) -> None:
        module, target = make(), small()
        holder, other = nn.ModuleList([module]), nn.ModuleList([target])
        _resize(holder, other.state_dict())
        holder.load_state_dict(other.state_dict())
        assert module.extra_repr() == target.extra_repr()

    pair(lambda: nn.Conv2d(8, 8, 3, groups=8), lambda: nn.Conv2d(5, 5, 3, groups=5))
    pair(lambda: nn.Conv2d(8, 16, 3, groups=8), lambda: nn.Conv2d(5, 10, 3, groups=5))
    pair(lambda: nn.Conv2d(16, 8, 3, groups=8), lambda: nn.Conv2d(10, 5, 3, groups=5))
    pair(lambda: nn.Conv2d(8, 12, 3, groups=2), lambda: nn.Conv2d(6, 4, 3, groups=2))
    pair(lambda: nn.ConvTranspose2d(8, 6, 3), lambda: nn.ConvTranspose2d(5, 4, 3))
    pair(
        lambda: nn.ConvTranspose2d(8, 8, 3, groups=8),
        lambda: nn.ConvTranspose2d(5, 5, 3, groups=5),
    )
    pair(
        lambda: nn.ConvTranspose2d(8, 12, 3, groups=2),
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
    )
    pair(lambda: nn.PReLU(8), lambda: nn.PReLU(3))
    pair(lambda: nn.BatchNorm1d(8), lambda: nn.BatchNorm1d(3))
    pair(lambda: nn.Linear(8, 6), lambda: nn.Linear(5, 3))
