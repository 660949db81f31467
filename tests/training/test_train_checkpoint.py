from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressor.errors import DataError, UsageError
from compressor.methods.magnitude import Magnitude
from compressor.training import GradualMasks, Teacher, TrainSettings, fit

Make = Callable[..., Any]
QUICK = TrainSettings(epochs=4, batch_size=16, validation_share=0.25)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(make_part: Make, make_standardizer: Make, make_network: Make) -> Make:
    """Train the small network from its fixed start: returns (result, network)."""

    def call(settings: TrainSettings = QUICK, *, stop: int = 0, **changes: Any) -> Any:
        part = changes.pop("part", None) or make_part()
        network = changes.pop("network", None) or make_network(seed=changes.get("seed", 0))

        seen = changes.pop("seen", [])

        def interrupt(epoch: int, epochs: int, record: dict[str, float]) -> None:
            seen.append(epoch)
            if epoch == stop:
                raise KeyboardInterrupt

        if "distilled" in changes:
            changes |= {"teacher": Teacher(make_network(seed=9))}
            del changes["distilled"]
        if "masked" in changes:
            changes |= {"masks": GradualMasks(Magnitude(sparsity=0.5))}
            del changes["masked"]
        arguments = {"standardizer": make_standardizer(part), "device": "cpu"} | changes
        return fit(network, part, settings, on_epoch=interrupt, **arguments), network

    return call


def bits(network: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in network.state_dict().values()]


def known(result: Any) -> Any:
    """Everything a result says but the time."""
    history = [{k: v for k, v in r.items() if k != "seconds"} for r in result.history]
    return history, result.best_epoch, result.validation


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "default": ({}, {}),
    "sgd-cosine": ({"optimizer": "sgd", "schedule": "cosine", "ema_decay": 0.0, "lr": 0.1}, {}),
    "radam-constant": ({"optimizer": "radam", "schedule": "constant", "validation_share": 0.0}, {}),
    "margin": ({"loss": "cm_softmax", "mixup_until": 0.5, "mixup_late_share": 0.5}, {}),
    "masked": ({"schedule": "cosine"}, {"masked": True}),
    "distilled": ({"warmup_share": 0.0, "schedule": "cosine"}, {"distilled": True}),
}


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_training_interrupted_at_any_epoch_ends_in_the_same_bits(
    run: Make, tmp_path: Path, case: str
) -> None:
    values, changes = CASES[case]
    settings = TrainSettings.from_dict(QUICK.to_dict() | {"epochs": 3} | values)
    whole, network = run(settings, **changes)
    for stop in (1, 2):
        file = tmp_path / f"{stop}.ckpt"
        with pytest.raises(KeyboardInterrupt):
            run(settings, stop=stop, checkpoint=file, **changes)
        resumed, again = run(settings, checkpoint=file, **changes)
        assert known(resumed) == known(whole)
        assert all(map(torch.equal, bits(network), bits(again)))


def test_a_training_interrupted_at_every_epoch(run: Make, tmp_path: Path) -> None:
    whole, network = run()
    file = tmp_path / "deeper" / "state.ckpt"
    for stop in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt):
            run(stop=stop, checkpoint=file)
    resumed, again = run(checkpoint=file)
    assert known(resumed) == known(whole)
    assert all(map(torch.equal, bits(network), bits(again)))
    assert resumed.seconds > sum(record["seconds"] for record in resumed.history)
    assert [entry.name for entry in file.parent.iterdir()] == ["state.ckpt"], "nothing left behind"


def test_writing_checkpoints_does_not_change_the_training(run: Make, tmp_path: Path) -> None:
    plain, network = run()
    written, again = run(checkpoint=tmp_path / "state.ckpt")
    assert known(plain) == known(written)
    assert all(map(torch.equal, bits(network), bits(again)))


def test_a_training_that_is_over_is_only_read(run: Make, tmp_path: Path) -> None:
    file = tmp_path / "state.ckpt"
    first, network = run(checkpoint=file)
    before = file.read_bytes()
    second, again = run(checkpoint=file, stop=4)
    assert known(first) == known(second)
    assert all(map(torch.equal, bits(network), bits(again)))
    assert file.read_bytes() == before


def test_the_epochs_that_are_there_are_not_trained_again(run: Make, tmp_path: Path) -> None:
    file = tmp_path / "state.ckpt"
    seen: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run(stop=3, checkpoint=file, seen=seen)
    result, _ = run(checkpoint=file, seen=seen)
    run(checkpoint=file, seen=seen)
    assert seen == [1, 2, 3, 4]
    assert [record["epoch"] for record in result.history] == [1, 2, 3, 4]


def test_an_early_stop_stays_one(run: Make, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, epochs=30, lr=0.5, ema_decay=0.0, early_stop_epochs=2)
    file = tmp_path / "state.ckpt"
    whole, network = run(settings)
    assert len(whole.history) < 30
    with pytest.raises(KeyboardInterrupt):
        run(settings, checkpoint=file, stop=len(whole.history) - 1)
    for _ in range(2):
        resumed, again = run(settings, checkpoint=file)
        assert known(resumed) == known(whole)
        assert all(map(torch.equal, bits(network), bits(again)))


def test_the_checkpoint_of_another_training_is_refused_by_name(
    run: Make, make_part: Make, make_network: Make, tmp_path: Path
) -> None:
    file = tmp_path / "state.ckpt"
    with pytest.raises(KeyboardInterrupt):
        run(stop=1, checkpoint=file)
    before = file.read_bytes()
    settings = dataclasses.replace(QUICK, epochs=5, loss="cm_softmax")
    with pytest.raises(
        UsageError, match=r"setting epochs is 4 in the file, 5 asked; setting loss is 'cross_entr"
    ):
        run(settings, checkpoint=file)
    with pytest.raises(UsageError, match="seed is 0 in the file, 1 asked"):
        run(seed=1, checkpoint=file)
    with pytest.raises(UsageError, match=r"clips is 96 in the file, 90 asked"):
        run(part=make_part(90), checkpoint=file)
    with pytest.raises(UsageError, match=r"features of the clips is"):
        run(part=make_part(seed=1), checkpoint=file)
    with pytest.raises(UsageError, match=r"teacher is None in the file"):
        run(distilled=True, checkpoint=file)
    with pytest.raises(UsageError, match="network at its start is"):
        run(network=make_network(seed=7), checkpoint=file)
    with pytest.raises(UsageError, match="network at its start is"):
        run(network=nn.Sequential(nn.Flatten(), nn.Linear(120, 3)), checkpoint=file)
    assert file.read_bytes() == before, "what it holds is not lost"


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "other"])
def test_files_that_are_no_checkpoint(run: Make, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "state.ckpt"
    with pytest.raises(KeyboardInterrupt):
        run(stop=1, checkpoint=file)
    content = file.read_bytes()
    if damage == "other":
        torch.save({"weights": torch.zeros(3)}, file)
    else:
        file.write_bytes({"cut": content[: len(content) // 2], "text": b"hello"}.get(damage, b""))
    with pytest.raises(UsageError, match=r"remove it to train from the start"):
        run(checkpoint=file)


def test_nothing_in_a_checkpoint_is_executed(run: Make, tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "executed",)

    file = tmp_path / "state.ckpt"
    torch.save({"format": 1, "identity": Evil()}, file, pickle_module=pickle)
    with pytest.raises(UsageError, match="cannot be read"):
        run(checkpoint=file)
    assert not (tmp_path / "executed").exists()


def test_a_place_that_cannot_be_written(run: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        run(checkpoint=tmp_path / "file" / "state.ckpt")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_resuming_on_a_gpu(run: Make, tmp_path: Path) -> None:
    file = tmp_path / "state.ckpt"
    whole, network = run(device="cuda")
    with pytest.raises(KeyboardInterrupt):
        run(stop=2, checkpoint=file, device="cuda")
    resumed, again = run(checkpoint=file, device="cuda")
    # CUDA's atomics add in no fixed order: near, not equal
    losses = [[r["loss"] for r in result.history] for result in (whole, resumed)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    for a, b in zip(bits(network), bits(again), strict=True):
        assert np.allclose(a.numpy(), b.numpy(), atol=1e-2)
