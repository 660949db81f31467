"""The engine: what each step leaves, what the history says, what an interrupted run keeps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from raised_bands import ARGS, CLASSES, FRAMES, MELS

import compressor
import zoo
from compressor.artifact import Artifact, load, save
from compressor.audit import audit
from compressor.data.features import Features
from compressor.engine import Keeper, StepRecord, compress
from compressor.errors import ConfigError, PruneError, ShapeError, UsageError
from compressor.methods.magnitude import count_sparsity
from compressor.recipe import Cast, Finetune, Prune, Recipe, Reestimate, Slim
from compressor.training import evaluate


def bits(artifact: Artifact) -> list[bytes]:
    return [t.contiguous().numpy().tobytes() for t in artifact.state_dict.values()]


def recorded(source: Any, steps: Any, data: Any = None, **more: Any) -> tuple[Artifact, list[Any]]:
    records: list[StepRecord] = []
    return compress(source, steps, data, on_step=records.append, **more), records


def test_slim_and_finetune(dense: Artifact, features: Features, tmp_path: Path) -> None:
    before = bits(dense)
    steps = [Slim(ratio=0.5), Finetune(epochs=2, teacher="self", temperature=3.0)]
    result, records = recorded(dense, steps, features)
    assert bits(dense) == before
    first, second = records
    assert first.audit_before["params"] == sum(p.numel() for p in dense.build().parameters())
    assert first.audit_after["params"] < first.audit_before["params"]
    assert first.audit_after["macs"] < first.audit_before["macs"]
    assert second.audit_before == first.audit_after
    assert second.accuracy_before == first.accuracy_after
    assert first.facts["reestimated_on"] == len(features.train)

    # figures and accuracies are those of the file, measured by other means
    path = tmp_path / "small.pt"
    save(result, path)
    counted = audit(path)
    assert second.audit_after["params"] == counted.params
    assert second.audit_after["param_bytes"] == counted.param_bytes == 4 * counted.params
    assert second.audit_after["macs"] == counted.macs_by_convention["strict"]
    scores = evaluate(
        load(path).build(), features.test, standardizer=features.standardizer, device="cpu"
    )
    assert second.accuracy_after is not None
    assert second.accuracy_after["accuracy"] == pytest.approx(scores.accuracy)
    assert result.metrics["test"] == scores.to_dict()

    # the training's own settings, without the penalty, and the step's on top
    training = dense.history[0]["settings"]
    assert second.facts["settings"] == {**training, "epochs": 2, "gamma_l1": 0.0}
    assert second.facts["teacher"] == "self"
    assert [entry["step"] for entry in result.history] == ["train", "slim", "finetune"]
    for entry in result.history[1:]:
        assert entry["seconds"] > 0
        assert entry["audit"].keys() == entry["accuracy"].keys() == {"before", "after"}
    assert load(path).history == result.history
    assert result.provenance["seed"] == 0


def test_the_same_seed_gives_the_same_bits(dense: Artifact, features: Features) -> None:
    steps = [Slim(ratio=0.5), Finetune(epochs=1)]
    one, two, other = (compress(dense, steps, features, seed=s) for s in (1, 1, 2))
    assert bits(one) == bits(two) != bits(other)


def test_settings_of_a_step_win(dense: Artifact, features: Features) -> None:
    step = Finetune(epochs=1, settings={"lr": 0.001, "optimizer": "sgd"})
    result = compress(dense, step, features)
    assert result.history[-1]["settings"]["lr"] == 0.001
    assert result.history[-1]["settings"]["optimizer"] == "sgd"
    assert result.history[-1]["settings"]["batch_size"] == 16


def test_pruned_weights_stay_zero_through_finetuning(dense: Artifact, features: Features) -> None:
    steps = [Prune(sparsity=0.6), Finetune(epochs=1), Cast()]
    result, records = recorded(dense, steps, features)
    zeros = records[0].facts["zeros"]
    assert zeros == int(records[0].facts["weights"] * 0.6)
    assert count_sparsity(result.build()).zeros >= zeros
    assert records[1].facts["sparsity"] == pytest.approx(0.6, abs=1e-4)
    assert records[2].audit_after["bytes_by_dtype"] == {
        "float16": 2 * records[0].audit_after["params"]
    }
    # 2020 and 2021 count non-zero numbers, later years all
    rules = records[0].facts["rules"]
    figures = records[0].audit_after
    assert f"{figures['nonzero_bytes']['strict']:,} (was " in rules["2021"]
    assert "unchanged" in rules["2022"]
    assert "unchanged" in rules["2023"]
    assert figures["params"] - figures["nonzero_params"] >= zeros


def test_gradual_pruning(dense: Artifact, features: Features) -> None:
    step = Prune(sparsity=0.8, schedule="gradual", epochs=3)
    result, (record,) = recorded(dense, step, features)
    sparsity = count_sparsity(result.build())
    assert sparsity.zeros == record.facts["zeros"] == int(sparsity.total * 0.8)
    assert len(record.facts["epochs"]) == 3


@pytest.mark.parametrize(
    ("target", "after", "field"),
    [
        ({"target_params": 20_000}, [], "params"),
        ({"target_macs": 300_000}, [], "macs"),
        ({"target_bytes": 30_000}, [Cast()], "param_bytes"),
    ],
)
def test_the_predicted_size_is_the_written_one(
    dense: Artifact, target: dict[str, int], after: list[Any], field: str, tmp_path: Path
) -> None:
    result, records = recorded(dense, [Slim(**target, importance="l1"), *after])
    save(result, tmp_path / "small.pt")
    counted = audit(tmp_path / "small.pt")
    written = {
        "params": counted.params,
        "macs": counted.macs_by_convention["strict"],
        "macs_official": counted.macs_by_convention["nessi"],
        "param_bytes": counted.param_bytes,
    }
    predicted = dict(records[0].facts["predicted"])
    assert predicted.pop("number_type") == ("float16" if after else "float32")
    assert predicted == written
    (limit,) = target.values()
    assert 0.9 * limit < written[field] <= limit
    assert not any("predicted" in note for record in records for note in record.notes)


def test_fit_a_challenge_year(dense: Artifact) -> None:
    result, (record,) = recorded(dense, Slim(fit="dcase2023"))
    # 128,000 B in float32 are 32,000 parameters
    assert 30_000 < record.audit_after["params"] <= 32_000
    assert record.accuracy_after is None
    assert "BatchNorm statistics are still those of the wider network" in record.notes[0]
    assert record.notes[1:] == ()
    _, (record,) = recorded(dense, Slim(fit="dcase2022"))
    assert "2022 also wants int8 numbers, these are float32" in record.notes[0]
    assert record.audit_after["params"] == record.audit_before["params"]  # fits as it is
    assert result.metrics == {}


@pytest.mark.parametrize("importance", ["gamma", "l1", "l2", "taylor", "random"])
def test_every_importance(dense: Artifact, features: Features, importance: str) -> None:
    _, (record,) = recorded(dense, Slim(ratio=0.4, importance=importance), features)
    share = record.facts["channels_under_threshold"] / record.facts["channels_total"]
    assert share == pytest.approx(0.4, abs=0.01)


def test_reestimation_repairs(dense: Artifact, features: Features) -> None:
    """Log loss with statistics estimated anew is lower than with those of the wide network."""
    _, (without,) = recorded(dense, Slim(ratio=0.5, reestimate=0), features)
    _, (single,) = recorded(dense, Slim(ratio=0.5), features)
    apart, (_, step) = recorded(dense, [Slim(ratio=0.5, reestimate=0), Reestimate()], features)
    assert single.accuracy_after["log_loss"] < without.accuracy_after["log_loss"]
    assert step.accuracy_after == single.accuracy_after
    assert apart.history[-1]["clips"] == len(features.train)


def test_float16_files_stay_float16(dense: Artifact) -> None:
    half = compress(dense, Cast())
    assert half.dtype == "float16"
    assert compress(half, Slim(ratio=0.5)).dtype == "float16"


def test_casting_says_what_it_costs(dense: Artifact, features: Features) -> None:
    result, (record,) = recorded(dense, Cast("bfloat16"), features)
    assert result.dtype == "bfloat16"
    assert record.facts["overflowed"] == []
    assert record.facts["arithmetic"]["clips"] == len(features.test)
    assert record.facts["arithmetic"]["accuracy"].keys() == {"bfloat16", "float32"}
    assert record.audit_after["param_bytes"] == 2 * record.audit_after["params"]


def test_a_live_network(features: Features) -> None:
    torch.manual_seed(0)
    model = zoo.build("seresnet18", len(CLASSES), **ARGS)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    result = compressor.compress(
        model, [Slim(ratio=0.3)], features, arch="seresnet18", arch_args=ARGS
    )
    assert result.input_shape == (1, MELS, FRAMES)
    assert result.classes == CLASSES
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    alone = compress(
        model, Slim(ratio=0.3), arch="seresnet18", arch_args={**ARGS, "num_classes": 3}
    )
    assert alone.input_shape == (1, MELS, FRAMES)
    with pytest.raises(UsageError, match="does not say how it was built; give arch="):
        compress(model, Slim(ratio=0.3))
    with pytest.raises(UsageError, match="expected an artifact, a network or the path"):
        compress(3, Slim(ratio=0.3))  # type: ignore[arg-type]


class TestInterrupts:
    """Finished steps are kept and found again; whatever decides them makes them stale."""

    steps = (Slim(ratio=0.5), Finetune(epochs=2), Cast())

    def interrupted(self, dense: Artifact, features: Features, out: Path) -> None:
        def stop(epoch: int, epochs: int, record: dict[str, float]) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            compress(dense, self.steps, features, keeper=Keeper(out), on_epoch=stop)

    def test_finished_steps_are_not_lost(
        self, dense: Artifact, features: Features, tmp_path: Path
    ) -> None:
        out = tmp_path / "small.pt"
        self.interrupted(dense, features, out)
        assert [p.name for p in tmp_path.iterdir()] == ["small.step1-slim.pt"]
        kept = load(tmp_path / "small.step1-slim.pt")
        assert [entry["step"] for entry in kept.history] == ["train", "slim"]
        result, records = recorded(dense, self.steps, features, keeper=Keeper(out))
        assert [record.resumed for record in records] == [True, False, False]
        whole, fresh = recorded(dense, self.steps, features)
        assert bits(result) == bits(whole)
        assert records[0].audit_after == fresh[0].audit_after
        _, again = recorded(dense, self.steps, features, keeper=Keeper(out))
        assert all(record.resumed for record in again)

    @pytest.mark.parametrize(
        ("change", "taken"),
        [
            ({"seed": 5}, [False, False]),
            ({"steps": (Slim(ratio=0.4), Cast())}, [False, False]),
            ({"steps": (Slim(ratio=0.5), Cast("bfloat16"))}, [True, False]),
            ({"data": False}, [False, False]),
        ],
    )
    def test_what_was_changed_is_run_again(
        self,
        dense: Artifact,
        features: Features,
        tmp_path: Path,
        change: dict[str, Any],
        taken: list[bool],
    ) -> None:
        keeper = Keeper(tmp_path / "small.pt")
        compress(dense, (Slim(ratio=0.5), Cast()), features, keeper=keeper)
        _, records = recorded(
            dense,
            change.get("steps", (Slim(ratio=0.5), Cast())),
            features if change.get("data", True) else None,
            keeper=keeper,
            seed=change.get("seed"),
        )
        assert [record.resumed for record in records] == taken

    def test_a_damaged_step_is_run_again(
        self, dense: Artifact, features: Features, tmp_path: Path
    ) -> None:
        keeper = Keeper(tmp_path / "small.pt")
        compress(dense, Slim(ratio=0.5), features, keeper=keeper)
        path = tmp_path / "small.step1-slim.pt"
        path.write_bytes(path.read_bytes()[:1000])
        _, (record,) = recorded(dense, Slim(ratio=0.5), features, keeper=keeper)
        assert not record.resumed


def test_bad_input(dense: Artifact, features: Features, dense_file: Path, tmp_path: Path) -> None:
    content = dense_file.read_bytes()
    with pytest.raises(UsageError, match="step finetune needs clips"):
        compress(dense_file, Finetune())
    with pytest.raises(PruneError, match=r"layer 'stem\.0' would lose all its 72 weights"):
        compress(dense_file, Prune(sparsity=0.999))
    with pytest.raises(PruneError, match=r"100 B in float32 \(size\) cannot be reached"):
        compress(dense_file, Slim(target_bytes=100))
    with pytest.raises(ConfigError, match="no step"):
        compress(dense_file, [])
    with pytest.raises(UsageError, match=r"teacher .* has input_shape \(1, 12, 22\)"):
        other = zoo.build("seresnet18", 3, **{**ARGS, "frames": 22})
        teacher = compress(
            other, Cast(), arch="seresnet18", arch_args={**ARGS, "frames": 22, "num_classes": 3}
        )
        save(teacher, tmp_path / "teacher.pt")
        compress(dense_file, Finetune(teacher=str(tmp_path / "teacher.pt")), features)
    assert dense_file.read_bytes() == content


def test_data_that_does_not_fit(dense: Artifact, features: Features) -> None:
    long = np.zeros((48, 1, MELS, FRAMES + 3), dtype=np.float16)
    wrong = dataclasses.replace(features, train=dataclasses.replace(features.train, x=long))
    with pytest.raises(ShapeError, match=r"takes inputs of \(1, 12, 20\).* make \(1, 12, 23\)"):
        compress(dense, Finetune(), wrong)
    scenes = dataclasses.replace(features.dataset, classes=("a", "b", "c", "d"))
    with pytest.raises(UsageError, match=r"knows 3 classes \(bus, park, tram\), the data has 4"):
        compress(dense, Finetune(), dataclasses.replace(features, dataset=scenes))
    other = dataclasses.replace(features.front_end, f_max_hz=9_000.0)
    with pytest.raises(UsageError, match="front-end with f_max_hz"):
        compress(dense, Finetune(), dataclasses.replace(features, front_end=other))
    empty = dataclasses.replace(features, test=features.test.subset([]))
    with pytest.raises(compressor.errors.DataError, match=r"the test part of .* holds no clip"):
        compress(dense, Finetune(), empty)


def test_nan_weights_are_named(dense: Artifact, features: Features) -> None:
    state = {k: v.clone() for k, v in dense.state_dict.items()}
    name = next(k for k in state if k.endswith("conv1.weight"))
    state[name].view(-1)[0] = float("nan")
    broken = dataclasses.replace(dense, state_dict=state)
    for step in (Slim(ratio=0.5), Prune(), Finetune(epochs=1)):
        with pytest.raises(compressor.errors.MeasureError, match=f"'{name}'"):
            compress(broken, step, None if not isinstance(step, Finetune) else features)


def test_a_recipe_file_runs(dense_file: Path, features: Features, tmp_path: Path) -> None:
    path = tmp_path / "steps.toml"
    path.write_text(Recipe((Slim(ratio=0.5),), seed=7).to_toml())
    result = compress(dense_file, path, features)
    assert result.provenance["seed"] == 7
