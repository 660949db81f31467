"""Networks of users: every pattern is cut exactly or refused by name, never cut wrongly."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from compressor.errors import PruneError, UnknownNameError
from compressor.methods import Slimming, mask_channels, reestimate, slice_channels, slim
from compressor.methods.surgery import (
    Channels,
    PrunePlan,
    channel_groups,
    count_planned,
    plan_removal,
)

Mid = Callable[[nn.ModuleDict, Tensor], Tensor]


def unit(inputs: int, outputs: int, kernel: int = 3, **options: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class Net(nn.Module):
    """Stem of 8 channels, a middle part, global average, classifier; input (N, 1, 12, 10)."""

    def __init__(self, parts: dict[str, nn.Module], mid: Mid, width: int) -> None:
        super().__init__()
        self.stem = unit(1, 8)
        self.parts = nn.ModuleDict(copy.deepcopy(parts))
        self.mid = mid
        self.fc = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mid(self.parts, self.stem(x))
        return self.fc(x if x.dim() == 2 else x.mean((2, 3)))


X = torch.randn(2, 1, 12, 10, generator=torch.Generator().manual_seed(5))


def shaken(model: nn.Module) -> nn.Module:
    """Statistics that fit X and random shifts, so that nearly every channel is alive."""
    reestimate(model, [X])
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine:
                layer.bias.copy_(torch.randn(layer.num_features, generator=generator) * 0.5)
    return model.eval()


def shuffle(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def split_residual(p: nn.ModuleDict, x: Tensor) -> Tensor:
    a, b = torch.split(x, x.shape[1] // 2, 1)
    return p["c"](torch.cat([p["a"](a), p["b"](b)], 1)) + x


def nested_concat(p: nn.ModuleDict, x: Tensor) -> Tensor:
    x = torch.cat([x, p["a"](x)], 1)
    return torch.cat([x, p["b"](x)], 1)


class Raw(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


EXACT: dict[str, tuple[dict[str, nn.Module], Mid, int]] = {
    "chain": ({"c": unit(8, 8)}, lambda p, x: p["c"](x), 8),
    "half of the channels": ({"a": unit(4, 8)}, lambda p, x: p["a"](x[:, : x.shape[1] // 2]), 8),
    "nested concatenation": ({"a": unit(8, 8), "b": unit(16, 8)}, nested_concat, 24),
    "norm after concatenation": (
        {"a": unit(8, 8), "n": nn.BatchNorm2d(16), "b": unit(16, 8)},
        lambda p, x: p["b"](p["n"](torch.cat([x, p["a"](x)], 1))),
        8,
    ),
    "grouped": ({"a": unit(8, 8, groups=2)}, lambda p, x: p["a"](x), 8),
    "grouped, halving": ({"a": unit(8, 4, 1, groups=4)}, lambda p, x: p["a"](x), 4),
    "grouped, doubling": ({"a": unit(8, 16, 1, groups=8)}, lambda p, x: p["a"](x), 16),
    "depthwise": ({"a": unit(8, 8, groups=8)}, lambda p, x: p["a"](x), 8),
    "used twice": ({"c": unit(8, 8)}, lambda p, x: p["c"](p["c"](x)), 8),
    "transposed": ({"c": nn.ConvTranspose2d(8, 6, 3)}, lambda p, x: p["c"](x), 6),
    "transposed, grouped": (
        {
            "c": nn.Sequential(
                nn.ConvTranspose2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 8, 3, groups=2)
            )
        },
        lambda p, x: p["c"](x),
        8,
    ),
    "PReLU": (
        {"c": nn.Sequential(nn.Conv2d(8, 8, 1), nn.PReLU(8), nn.Conv2d(8, 8, 1), nn.PReLU())},
        lambda p, x: p["c"](x),
        8,
    ),
    "instance norm": (
        {"c": nn.Sequential(nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.ReLU())},
        lambda p, x: p["c"](x),
        8,
    ),
    "norm first": (
        {"n": nn.BatchNorm2d(8), "r": nn.ReLU(inplace=True), "c": nn.Conv2d(8, 8, 3, padding=1)},
        lambda p, x: x + p["c"](p["r"](p["n"](x))),
        8,
    ),
    "split, residual and concatenation": (
        {"a": unit(4, 4), "b": unit(4, 4), "c": unit(8, 8)},
        split_residual,
        8,
    ),
    "flatten": (
        {"l": nn.Linear(8 * 120, 6), "r": nn.ReLU()},
        lambda p, x: p["r"](p["l"](x.flatten(1))),
        6,
    ),
    "two statistics": ({}, lambda p, x: torch.cat([x.mean((2, 3)), x.std((2, 3))], 1), 16),
}

# pattern -> (parts, middle, classifier inputs, what the message must name)
REFUSED: dict[str, tuple[dict[str, nn.Module], Mid, int, str]] = {
    "shuffle": ({"c": unit(8, 8)}, lambda p, x: p["c"](shuffle(x)), 8, "stem.0"),
    "constant slice": ({"a": unit(4, 8)}, lambda p, x: p["a"](x[:, :4]), 8, "stem.0"),
    "sigmoid before a convolution": (
        {"c": nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid(), nn.Conv2d(8, 8, 1))},
        lambda p, x: p["c"](x),
        8,
        "parts.c.0",
    ),
    "layer norm": (
        {"n": nn.LayerNorm(8)},
        lambda p, x: p["n"](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
        8,
        "parts.n",
    ),
    "group norm": ({"n": nn.GroupNorm(2, 8)}, lambda p, x: p["n"](x), 8, "parts.n"),
    "raw parameter": ({"s": Raw()}, lambda p, x: p["s"](x), 8, "parts.s.scale"),
    "norm over mel bands": (
        {"n": nn.BatchNorm2d(12), "c": unit(8, 8)},
        lambda p, x: p["c"](p["n"](x.transpose(1, 2)).transpose(1, 2)),
        8,
        "stem.0",
    ),
    "norm over channels": ({}, lambda p, x: x / (x.mean((1, 3), keepdim=True) + 1), 8, "stem.0"),
    "flatten, channels last": (
        {"l": nn.Linear(8 * 120, 6)},
        lambda p, x: p["l"](x.permute(0, 2, 3, 1).flatten(1)),
        6,
        "stem.0",
    ),
    "gated linear unit": (
        {"c": nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.GLU(1))},
        lambda p, x: p["c"](x),
        4,
        "parts.c.0",
    ),
    "softmax over channels": ({}, lambda p, x: torch.softmax(x, 1) * x, 8, "stem.0"),
    "norm without scale": (
        {"c": nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8, affine=False))},
        lambda p, x: p["c"](x),
        8,
        "parts.c.0",
    ),
}


def two_of_each(model: nn.Module, **options: object) -> tuple[nn.Module, PrunePlan]:
    """Remove the first and a middle unit of every group."""
    groups = channel_groups(model, X, **options)
    removed = {g.index: sorted({0, g.size // 2}) for g in groups if g.size > 2}
    plan = plan_removal(model, groups, removed)
    return slice_channels(model, X, plan, groups=groups), plan


@pytest.mark.parametrize("pattern", EXACT)
def test_cut_exactly(pattern: str) -> None:
    torch.manual_seed(0)
    model = shaken(Net(*EXACT[pattern]))
    small, plan = two_of_each(model)
    with torch.no_grad():
        expected = mask_channels(model, X, plan)(X)
        assert (small(X) - expected).abs().max() < 1e-5 * expected.abs().max()
        assert (expected - model(X)).abs().max() > 1e-3  # the removed channels mattered
    assert sum(p.numel() for p in small.parameters()) == count_planned(model, plan)
    assert {c.layer for c in plan.outputs} >= {"stem.0", "stem.1"}


@pytest.mark.parametrize("pattern", REFUSED)
def test_refused_by_name(pattern: str) -> None:
    torch.manual_seed(0)
    *parts, name = REFUSED[pattern]
    with pytest.raises(PruneError, match=name.replace(".", r"\.")):
        two_of_each(shaken(Net(*parts)))


def test_single_precision_constants_and_one_axis_networks() -> None:
    """A network that cannot run in double precision is compared in its own; Conv1d works alike."""

    def mix(p: nn.ModuleDict, x: Tensor) -> Tensor:
        return nn.functional.linear(x, torch.eye(10))  # float32 whatever the input is

    torch.manual_seed(0)
    small, _ = two_of_each(shaken(Net({}, mix, 8)))
    assert small.stem[0].out_channels == 6
    with pytest.raises(PruneError, match=r"stem\.0.*outputs differ"):
        two_of_each(shaken(Net({}, lambda p, x: torch.softmax(mix(p, x), 1) * x, 8)))

    class OneAxis(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(12, 8, 3)
            self.norm = nn.BatchNorm1d(8)
            self.head = nn.Conv1d(8, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.norm(self.conv(x.squeeze(1))).relu()).mean(2)

    result = slim(shaken(OneAxis()), X, Slimming(0.5))
    assert (result.model.conv.out_channels, result.model.head.in_channels) == (4, 4)


def test_refused_layer_can_be_left_alone() -> None:
    parts, mid, width, _ = REFUSED["group norm"]
    model = shaken(Net(parts | {"c": unit(8, 8)}, lambda p, x: p["n"](p["c"](x)), width))
    small, plan = two_of_each(model, ignored=["parts.c.0"])
    assert [c.layer for c in plan.outputs] == ["stem.0", "stem.1"]
    assert small.parts["c"][0].in_channels == 6
    del mid


def test_ignored_block_covers_its_layers_and_typos_are_found() -> None:
    model = shaken(Net(*EXACT["chain"]))
    assert [g.name for g in channel_groups(model, X, ["stem"])] == ["parts.c.0"]
    with pytest.raises(UnknownNameError, match=r"did you mean .*stem\.0"):
        channel_groups(model, X, ["stem.O"])


def test_model_is_left_as_it_was() -> None:
    model = Net(*EXACT["chain"]).train()
    model.stem[0].weight.requires_grad_(False)
    model(X).sum().backward()
    calls: list[int] = []
    model.stem.register_forward_hook(lambda *_: calls.append(1))
    model.parts["c"].eval()
    modes = {n: m.training for n, m in model.named_modules()}
    state = {k: v.clone() for k, v in model.state_dict().items()}
    grads = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
    random_state = torch.get_rng_state()
    result = slim(model, X, Slimming(0.5))
    assert not calls
    assert torch.equal(random_state, torch.get_rng_state())
    assert modes == {n: m.training for n, m in model.named_modules()}
    assert modes == {n: m.training for n, m in result.model.named_modules()}
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
    for name, parameter in model.named_parameters():
        before = grads[name]
        assert (parameter.grad is None) == (before is None)
        assert before is None or torch.equal(parameter.grad, before)
    small = dict(result.model.named_parameters())
    assert not small["stem.0.weight"].requires_grad  # a frozen network is slimmed and stays frozen
    assert small["fc.weight"].requires_grad
    assert all(p.grad is None for p in small.values())


def test_works_under_no_grad() -> None:
    with torch.no_grad():
        assert slim(shaken(Net(*EXACT["chain"])), X, Slimming(0.5)).params_after > 0


def test_networks_are_freed_after_use() -> None:
    """torch_pruning's pruner classes keep every network alive; the dependency graph must not."""
    model = shaken(Net(*EXACT["nested concatenation"]))
    result = slim(model, X, Slimming(0.5))
    dead = [weakref.ref(model), weakref.ref(result.model), weakref.ref(model.stem[0].weight)]
    del model, result
    gc.collect()
    assert [ref() for ref in dead] == [None, None, None]
    assert not [o for o in gc.get_objects() if type(o).__name__ == "DependencyGraph"]


def test_computed_and_shared_weights_are_refused() -> None:
    from torch.nn.utils import parametrizations, prune

    parts, mid, width = EXACT["chain"]
    model = shaken(Net(parts, mid, width))
    prune.l1_unstructured(model.stem[0], "weight", amount=0.5)
    model(X)
    with pytest.raises(PruneError, match=r"weight of layer 'stem\.0' is computed.*prune\.remove"):
        slim(model, X, Slimming(0.5))
    model = shaken(Net({"c": unit(8, 8)}, mid, width))
    parametrizations.weight_norm(model.stem[0])
    with pytest.raises(PruneError, match=r"weight of layer 'stem\.0' is computed"):
        slim(model, X, Slimming(0.5))
    model = shaken(Net({"a": unit(8, 8), "b": unit(8, 8)}, lambda p, x: p["b"](p["a"](x)), 8))
    model.parts["b"][0].weight = model.parts["a"][0].weight
    with pytest.raises(PruneError, match=r"is shared \(parts\.a\.0\.weight, parts\.b\.0\.weight\)"):
        slim(model, X, Slimming(0.5))


def test_broken_networks_are_refused() -> None:
    model = shaken(Net(*EXACT["chain"]))
    with pytest.raises(PruneError, match=r"does not run on an example of shape \(2, 3, 12, 10\)"):
        slim(model, torch.zeros(2, 3, 12, 10), Slimming(0.5))
    with torch.no_grad():
        model.fc.bias[0] = float("nan")
    with pytest.raises(PruneError, match=r"'fc\.bias' holds values that are not finite"):
        slim(model, X, Slimming(0.5))
    with torch.no_grad():
        model.stem[1].weight[0] = float("inf")
    with pytest.raises(PruneError, match=r"'stem\.1' has scales that are not finite"):
        slim(model, X, Slimming(0.5))

    class Pair(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            out = super().forward(x)
            return out, out

    with pytest.raises(PruneError, match="returns a tuple"):
        slim(Pair(*EXACT["chain"]), X, Slimming(0.5))


def test_plan_that_does_not_fit_is_refused() -> None:
    model = shaken(Net(*EXACT["chain"]))
    groups = channel_groups(model, X)
    with pytest.raises(PruneError, match=r"all 8 channels of layer 'stem\.0'"):
        plan_removal(model, groups, {0: range(8)})
    with pytest.raises(PruneError, match="no units"):
        plan_removal(model, groups, {0: [8]})
    wrong = PrunePlan(outputs=(Channels("stem.0", (0, 1), 16),))
    with pytest.raises(PruneError, match=r"made for 16 channels of layer 'stem\.0', found 8"):
        slice_channels(model, X, wrong)
    foreign = PrunePlan(outputs=(Channels("conv9", (0, 1), 16),))
    with pytest.raises(PruneError, match="'conv9', which the network lacks"):
        slice_channels(model, X, foreign)
    # outputs cut without the inputs that follow: the sliced network cannot run
    half = PrunePlan(outputs=(Channels("stem.0", (0, 1), 8), Channels("stem.1", (0, 1), 8)))
    with pytest.raises(PruneError, match="does not run"):
        slice_channels(model, X, half)


def test_plan_goes_to_json_and_back() -> None:
    import json

    plan = slim(shaken(Net(*EXACT["grouped"])), X, Slimming(0.5)).plan
    assert PrunePlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    channels = plan.outputs[0]
    assert sorted(channels.kept + channels.removed) == list(range(channels.total))
