from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressor.data.features import Standardizer
from compressor.errors import DataError, MeasureError, ShapeError, UsageError
from compressor.training import TrainSettings, evaluate, fit
from compressor.training.optimizers import make_optimizer
from compressor.training.validation import split_rows

Make = Callable[..., Any]
QUICK = TrainSettings(epochs=3, batch_size=16, validation_share=0.25)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def run(make_part: Make, make_standardizer: Make, make_network: Make) -> Make:
    """Train the small network: returns (result, network, part)."""

    def call(
        settings: TrainSettings = QUICK,
        *,
        part: Any = None,
        network: nn.Module | None = None,
        **changes: Any,
    ) -> Any:
        part = make_part() if part is None else part
        network = make_network() if network is None else network
        arguments = {"standardizer": make_standardizer(part), "device": "cpu"} | changes
        return fit(network, part, settings, **arguments), network, part

    return call


def state(network: nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in network.state_dict().values()]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "bfloat16"},
        {"optimizer": "sgd", "lr": 0.05, "schedule": "cosine", "weight_decay": 1e-4},
        {"ema_decay": 0.0, "grad_clip": 1.0, "channels_last": False},
        {"optimizer": "radam", "schedule": "constant", "precision": "bfloat16"},
        {"optimizer": "adam", "loss": "cm_softmax", "mix_masks": "input", "cutout_masks": 1},
    ],
    ids=["adamw", "bfloat16", "sgd-cosine", "clipped", "radam", "adam-margin"],
)
def test_a_separable_problem_is_learnt(
    run: Make, make_part: Make, make_standardizer: Make, changes: dict[str, Any]
) -> None:
    settings = TrainSettings.from_dict(
        {"epochs": 12, "batch_size": 16, "lr": 0.01, "validation_share": 0.2, "crop_frames": 8}
        | changes
    )
    result, network, part = run(settings)
    unseen = make_part(seed=1)
    assert evaluate(network, unseen, standardizer=make_standardizer(part)).macro_accuracy > 0.95
    assert result.validation is not None
    assert result.validation.macro_accuracy > 0.9
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_the_result_is_complete(run: Make) -> None:
    seen: list[tuple[int, int, float]] = []
    result, network, _ = run(on_epoch=lambda e, n, record: seen.append((e, n, record["loss"])))
    assert [(e, n) for e, n, _ in seen] == [(1, 3), (2, 3), (3, 3)]
    assert [loss for *_, loss in seen] == [record["loss"] for record in result.history]
    assert set(result.history[0]) == {
        "epoch",
        "loss",
        "lr",
        "seconds",
        "val_accuracy",
        "val_macro_accuracy",
        "val_log_loss",
    }
    assert result.seconds >= sum(record["seconds"] for record in result.history)
    assert result.cpu_seconds > 0
    assert not network.training


def test_equal_seeds_give_identical_bits_and_others_do_not(run: Make) -> None:
    states = []
    for global_seed, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(global_seed)  # must not matter
        np.random.seed(global_seed)
        states.append(state(run(seed=seed)[1]))
    assert all(map(torch.equal, states[0], states[1]))
    assert not all(map(torch.equal, states[0], states[2]))


def test_training_leaves_torchs_own_generator_alone(run: Make) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    run()
    assert torch.equal(torch.rand(4), expected)


def test_the_best_epoch_is_restored(run: Make, make_standardizer: Make) -> None:
    """Validation results of the returned weights equal those of the best record, not the last."""
    settings = dataclasses.replace(QUICK, epochs=8, lr=0.3, ema_decay=0.0)  # unsteady
    result, network, part = run(settings)
    ranks = [(r["val_macro_accuracy"], -r["val_log_loss"]) for r in result.history]
    assert result.best_epoch == ranks.index(max(ranks)) + 1
    assert result.best_epoch < 8, "the case must be one where the last epoch is not the best"
    held = part.subset(split_rows(part, 0.25)[1])
    again = evaluate(network, held, standardizer=make_standardizer(part), device="cpu")
    best = result.history[result.best_epoch - 1]
    assert again.macro_accuracy == best["val_macro_accuracy"]
    assert again.log_loss == pytest.approx(best["val_log_loss"], rel=1e-5)
    assert result.validation.log_loss == best["val_log_loss"]


def test_averaged_weights_are_validated_and_kept(run: Make, make_standardizer: Make) -> None:
    result, network, part = run(dataclasses.replace(QUICK, ema_decay=0.9))
    held = part.subset(split_rows(part, 0.25)[1])
    again = evaluate(network, held, standardizer=make_standardizer(part), device="cpu")
    best = result.history[result.best_epoch - 1]
    assert again.log_loss == pytest.approx(best["val_log_loss"], rel=1e-5)
    plain = run(dataclasses.replace(QUICK, ema_decay=0.0))[1]
    assert not torch.equal(network[0].weight, plain[0].weight)


def test_one_epoch_of_one_step_averages_by_hand(run: Make, make_network: Make) -> None:
    """d = 2/11 after the first step: kept = 2/11·start + 9/11·trained."""
    settings = TrainSettings(epochs=1, batch_size=96, validation_share=0.0)
    start = make_network()
    trained = run(dataclasses.replace(settings, ema_decay=0.0))[1]
    averaged = run(settings)[1]
    expected = 2 / 11 * start[0].weight + 9 / 11 * trained[0].weight
    assert torch.allclose(averaged[0].weight, expected, atol=1e-6)


def test_averaging_does_not_change_the_training_itself(run: Make) -> None:
    losses = [
        [r["loss"] for r in run(dataclasses.replace(QUICK, ema_decay=decay))[0].history]
        for decay in (0.0, 0.9)
    ]
    assert losses[0] == losses[1]


OTHER_VALUES = {
    "epochs": 4,
    "batch_size": 17,
    "optimizer": "sgd",
    "lr": 0.006,
    "weight_decay": 0.1,
    "momentum": 0.8,
    "schedule": "cosine",
    "warmup_share": 0.4,
    "label_smoothing": 0.0,
    "mixup_alpha": 0.0,
    "freq_masks": 2,
    "freq_mask_share": 0.5,
    "time_masks": 2,
    "time_mask_share": 0.5,
    "time_roll": False,
    "crop_frames": 7,
    "ema_decay": 0.5,
    "gamma_l1": 0.1,
    "validation_share": 0.4,
    "precision": "bfloat16",
    "grad_clip": 0.01,
    "loss": "cm_softmax",
    "cm_scale": 10.0,
    "cm_angular_margin": 0.4,
    "cm_additive_margin": 0.3,
    "lr_final": 0.001,
    "mixup_from": 0.5,
    "mixup_until": 0.5,
    "mixup_late_share": 0.5,
    "time_warp_frames": 3,
    "cutout_masks": 1,
    "cutout_freq_share": 0.5,
    "cutout_time_share": 0.6,
    "time_shift_frames": 4.0,
    "mix_masks": "input",
    "spectrum_correction": True,
    "spectrum_share": 0.1,
    "mixstyle_share": 0.9,
    "mixstyle_alpha": 5.0,
}
# What a setting needs to be of any effect.
NEEDS: dict[str, dict[str, Any]] = {
    "cm_scale": {"loss": "cm_softmax"},
    "cm_angular_margin": {"loss": "cm_softmax"},
    "cm_additive_margin": {"loss": "cm_softmax"},
    "lr_final": {"schedule": "cosine"},
    "mixup_late_share": {"mixup_until": 0.3},
    "cutout_freq_share": {"cutout_masks": 1},
    "cutout_time_share": {"cutout_masks": 1},
    "spectrum_share": {"spectrum_correction": True},
    "mixstyle_alpha": {"mixstyle_share": 1.0},
}
# Tested where their data or layers are: no effect here, or not in `fit`.
ELSEWHERE = {
    "channels_last",
    "tasks",
    "group_weight",
    "pcgrad",
    "group_logit_share",
    "early_stop_epochs",
    "mixup_kind",
    "hidden_mask_layers",
    "speeds",
    "tta_copies",
}


@pytest.mark.parametrize(
    "name", sorted({field.name for field in dataclasses.fields(TrainSettings)} - ELSEWHERE)
)
def test_every_setting_reaches_the_training(run: Make, name: str) -> None:
    start = QUICK.to_dict() | NEEDS.get(name, {})
    plain = run(TrainSettings.from_dict(start))[1]
    changed = run(TrainSettings.from_dict(start | {name: OTHER_VALUES[name]}))[1]
    assert not all(map(torch.equal, state(plain), state(changed)))


def test_masks_lie_on_the_axis_they_are_named_after(run: Make, make_part: Make) -> None:
    """Features of one value everywhere: what the network sees as 0 was masked."""
    part = make_part(64, (1, 12, 10))
    part = dataclasses.replace(part, x=np.ones_like(part.x))
    unit = Standardizer(mean=((0.0,) * 12,), std=((1.0,) * 12,))
    bare = dataclasses.replace(QUICK, freq_masks=0, time_masks=0, freq_mask_share=0.9)
    for changes, axis in (({"freq_masks": 1}, 2), ({"time_masks": 1}, 3)):
        network = nn.Sequential(nn.Flatten(), nn.Linear(120, 3))
        batches: list[torch.Tensor] = []
        network.register_forward_pre_hook(lambda _, x, kept=batches: kept.append(x[0]))
        run(dataclasses.replace(bare, **changes), part=part, network=network, standardizer=unit)
        hidden = torch.cat(batches) < 0.999  # mixup makes other values of 0 and 1
        whole = hidden.any(dim=5 - axis, keepdim=True)
        assert hidden.any()
        assert torch.equal(hidden, whole.expand_as(hidden))
        assert not whole.all()


def test_gradient_clipping_bounds_the_step(run: Make, make_network: Make) -> None:
    settings = TrainSettings(
        epochs=1,
        batch_size=96,
        optimizer="sgd",
        schedule="cosine",
        warmup_share=0.0,
        lr=0.5,
        momentum=0.0,
        weight_decay=0.0,
        ema_decay=0.0,
        validation_share=0.0,
        grad_clip=0.01,
    )
    before = [p.detach().clone() for p in make_network().parameters()]
    after = list(run(settings)[1].parameters())
    moves = [(b - a).flatten() for a, b in zip(before, after, strict=True)]
    assert torch.cat(moves).norm().item() == pytest.approx(0.5 * 0.01, rel=1e-3)


def test_without_validation_the_last_epoch_is_taken(run: Make) -> None:
    result, _, _ = run(dataclasses.replace(QUICK, validation_share=0.0))
    assert result.best_epoch == 3
    assert result.validation is None
    assert "val_accuracy" not in result.history[0]


def test_training_stops_when_nothing_gets_better(run: Make) -> None:
    settings = dataclasses.replace(QUICK, epochs=40, lr=0.3, ema_decay=0.0, early_stop_epochs=3)
    whole, _, _ = run(dataclasses.replace(settings, early_stop_epochs=0))
    result, _, _ = run(settings)
    ranks = [(r["val_macro_accuracy"], -r["val_log_loss"]) for r in whole.history]
    best = [ranks.index(max(ranks[: epoch + 1])) + 1 for epoch in range(40)]
    last = next(epoch for epoch in range(1, 41) if epoch - best[epoch - 1] == 3)
    assert last < 40, "the case must be one that stops"
    assert len(result.history) == last
    assert result.best_epoch == best[last - 1]
    assert [r["loss"] for r in result.history] == [r["loss"] for r in whole.history[:last]]


class Recorder(nn.Module):
    """Keeps the first value of each clip it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(1, 3)
        self.seen: set[int] = set()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen |= set(x[:, 0, 0, 0].round().long().tolist())
        output: torch.Tensor = self.head(x.mean(dim=(1, 2, 3))[:, None])
        return output


def test_validation_clips_are_never_trained_on(run: Make, make_part: Make) -> None:
    part = make_part(64, (1, 2, 3))
    numbered = np.broadcast_to(
        np.arange(len(part.x), dtype=np.float16)[:, None, None, None], part.x.shape
    )
    part = dataclasses.replace(part, x=numbered)
    plain = TrainSettings(
        epochs=6,
        batch_size=7,
        validation_share=0.25,
        mixup_alpha=0.0,
        freq_masks=0,
        time_masks=0,
    )
    network = Recorder()
    unit = Standardizer(mean=((0.0, 0.0),), std=((1.0, 1.0),))
    run(plain, part=part, network=network, standardizer=unit)
    train, held = split_rows(part, 0.25)
    assert len(held) == pytest.approx(16, abs=4)
    assert network.seen == set(part.index[train].tolist())
    assert not network.seen & set(part.index[held].tolist())


def test_gamma_l1_drives_scales_to_zero(run: Make, make_network: Make) -> None:
    settings = TrainSettings(
        epochs=40, batch_size=24, optimizer="sgd", lr=0.05, ema_decay=0.0, validation_share=0.0
    )
    smallest = {}
    for strength in (0.0, 0.05):
        network = run(dataclasses.replace(settings, gamma_l1=strength))[1]
        gammas = torch.cat([network[1].weight, network[5].weight]).detach().abs()
        smallest[strength] = (gammas < 0.05).float().mean().item()
    assert smallest[0.0] == 0.0
    assert smallest[0.05] > 0.3


def test_weight_decay_spares_one_dimensional_parameters(make_network: Make) -> None:
    network = make_network()
    for name in ("adamw", "sgd", "adam", "radam"):
        groups = make_optimizer(
            network, TrainSettings.from_dict({"optimizer": name, "weight_decay": 0.5})
        ).param_groups
        assert {p.ndim > 1 for p in groups[0]["params"]} == {True}
        assert groups[0]["weight_decay"] == 0.5
        assert groups[1]["weight_decay"] == 0.0
        assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))


@pytest.mark.parametrize("name", ["adamw", "sgd", "adam", "radam"])
def test_fused_steps_in_channels_last_equal_plain_ones(make_network: Make, name: str) -> None:
    """The fused step walks memory in order: gradients must have the strides of their weights."""
    settings = TrainSettings.from_dict({"optimizer": name, "lr": 0.01})
    ours = make_network().to(memory_format=torch.channels_last)
    plain = make_network()
    plain[9].p = ours[9].p = 0.0  # no dropout
    kwargs: dict[str, Any] = {"lr": 0.01, "foreach": False, "fused": False}
    groups = [
        {"params": [p for p in plain.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in plain.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if name == "sgd":
        reference = torch.optim.SGD(groups, momentum=0.9, nesterov=True, **kwargs)
    elif name == "radam":
        reference = torch.optim.RAdam(groups, betas=(0.9, 0.999), lr=0.01, foreach=False)
    else:
        kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
        reference = kind(groups, betas=(0.9, 0.999), **kwargs)
    optimizer = make_optimizer(ours, settings)
    x = torch.randn(8, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    for network, step, order in (
        (ours, optimizer, torch.channels_last),
        (plain, reference, torch.contiguous_format),
    ):
        for _ in range(3):
            step.zero_grad()
            network(x.contiguous(memory_format=order)).square().sum().backward()
            step.step()
    for a, b in zip(ours.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_a_frozen_network_is_refused(run: Make, make_network: Make) -> None:
    with pytest.raises(UsageError, match="no trainable parameter"):
        run(network=make_network().requires_grad_(False))


def test_a_diverging_run_names_epoch_and_rate_and_keeps_the_weights(
    run: Make, make_network: Make
) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(120, 3))
    before = state(network)
    settings = TrainSettings(
        epochs=30, optimizer="sgd", lr=1e38, weight_decay=0.0, label_smoothing=0.0, batch_size=16
    )
    with pytest.raises(MeasureError, match=r"loss became (nan|inf) in epoch 1 at learning rate"):
        run(settings, network=network)
    assert all(map(torch.equal, before, state(network)))


def test_an_interrupt_leaves_the_network_as_it_was(run: Make, make_network: Make) -> None:
    network = make_network()
    before = state(network)

    def interrupt(epoch: int, epochs: int, record: dict[str, float]) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(network=network, on_epoch=interrupt)
    assert all(map(torch.equal, before, state(network)))
    assert network[4].weight.is_contiguous()


def test_time_first_networks(make_part: Make, make_standardizer: Make) -> None:
    part = make_part(shape=(1, 12, 7))
    network = nn.Sequential(nn.AvgPool2d((7, 1)), nn.Flatten(), nn.Linear(12, 3))  # (N, 1, T, M)
    result = fit(
        network,
        part,
        TrainSettings(epochs=8, lr=0.05, batch_size=16),
        standardizer=make_standardizer(part),
        layout="CTF",
        device="cpu",
    )
    assert result.validation is not None
    assert result.validation.macro_accuracy > 0.9


def test_extra_outputs_get_no_gradient(run: Make, make_network: Make) -> None:
    network = make_network(extra=2)
    before = network[-1].weight.detach().clone()
    settings = TrainSettings(epochs=1, weight_decay=0.0, ema_decay=0.0, validation_share=0.0)
    run(settings, network=network)
    assert torch.equal(network[-1].weight[3:], before[3:])
    assert not torch.equal(network[-1].weight[:3], before[:3])


def test_crashing_layers_train_in_plain_memory_format(run: Make) -> None:
    """Channels-last would end the process here with a segmentation fault on some CPUs."""
    network = nn.Sequential(
        nn.Conv2d(1, 5, 3),
        nn.Conv2d(5, 16, 1, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 3),
    )
    formats: list[bool] = []
    network[2].register_forward_hook(
        lambda _, inputs, __: formats.append(inputs[0].is_contiguous())
    )
    run(dataclasses.replace(QUICK, epochs=1), network=network)
    assert formats
    assert all(formats)


def test_weights_come_back_in_plain_memory_format(run: Make) -> None:
    network = run()[1]
    assert all(p.is_contiguous() for p in network.parameters())


def test_batches_larger_than_the_part(run: Make) -> None:
    result, _, _ = run(TrainSettings(epochs=2, batch_size=1000))
    assert len(result.history) == 2
    assert all(math.isfinite(record["loss"]) for record in result.history)


def test_sizes_that_cannot_work(run: Make, make_part: Make, make_network: Make) -> None:
    with pytest.raises(ShapeError, match="crop_frames is 11, but the clips have 10 frames"):
        run(TrainSettings(crop_frames=11))
    with pytest.raises(ShapeError, match="3 classes"):
        run(network=make_network(classes=2))
    part = make_part()
    with pytest.raises(DataError, match="labels run from 0 to 2, but there are 2 classes"):
        run(part=dataclasses.replace(part, classes=part.classes[:2]))
    with pytest.raises(DataError, match="holds 1 clip"):
        run(part=part.subset(np.array([0])))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_on_a_gpu(run: Make, make_standardizer: Make, precision: str) -> None:
    settings = TrainSettings.from_dict(
        {"epochs": 12, "batch_size": 16, "lr": 0.01, "precision": precision, "crop_frames": 8}
    )
    result, network, part = run(settings, device="cuda")
    assert result.validation.macro_accuracy > 0.9
    assert next(network.parameters()).device.type == "cpu"
    on_gpu = evaluate(network, part, standardizer=make_standardizer(part), device="cuda")
    on_cpu = evaluate(network, part, standardizer=make_standardizer(part), device="cpu")
    assert on_gpu.log_loss == pytest.approx(on_cpu.log_loss, rel=1e-2)
