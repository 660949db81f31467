"""Every network of the registry: outputs, sizes, errors, gradients, seeds, FX."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.fx
from torch import Tensor, nn

import zoo
from compressor.errors import ShapeError

MODELS = zoo.list_models()
Small = Callable[[str], tuple[nn.Module, Tensor]]
Arguments = Callable[[str], dict[str, int]]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("classes", [1, 3, 50])
def test_any_number_of_classes(name: str, classes: int, small_arguments_of: Arguments) -> None:
    arguments = small_arguments_of(name)
    network = zoo.build(name, classes, **arguments).eval()
    shape = zoo.entry(name).shape(frames=arguments.get("frames"), mels=arguments.get("mels"))
    further = 3 if zoo.entry(name).family == "dsmn" else 0
    with torch.no_grad():
        assert network(torch.zeros(2, *shape)).shape == (2, classes + further)


@pytest.mark.parametrize("name", MODELS)
def test_output_depends_on_the_whole_input(name: str, small: Small) -> None:
    """A change anywhere in frequency or time reaches the logits, so that nothing is cut off."""
    network, x = small(name)
    x.requires_grad_(True)
    network(x).square().sum().backward()
    assert x.grad is not None
    reached = x.grad.abs().amax(dim=(0, 1)) > 0  # (M, T) or (T, M)
    family = zoo.entry(name).family
    # poolings without padding drop the last rows and columns of odd sizes
    margin = {"dsmn": 2, "cp_resnet": 0, "sepcnn": 4, "dcase_baseline": 0}.get(family, 0)
    rows, columns = reached.any(1), reached.any(0)
    assert rows[: len(rows) - margin].all()
    assert columns[: len(columns) - margin].all()


@pytest.mark.parametrize("name", MODELS)
def test_clips_of_a_batch_are_independent(name: str, small: Small) -> None:
    network, x = small(name)
    with torch.no_grad():
        together = network(x)
        alone = torch.cat([network(clip) for clip in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert together.std(0).max() > 1e-3, "the clips differ, so must their logits"


@pytest.mark.parametrize("name", MODELS)
def test_gradient_reaches_every_parameter(name: str, small: Small) -> None:
    network, x = small(name)  # eval mode: before a live BatchNorm a bias has no gradient
    network(x).square().sum().backward()
    idle = [
        key
        for key, p in network.named_parameters()
        if p.grad is None or not torch.isfinite(p.grad).all() or p.grad.abs().max() == 0
    ]
    assert not idle


@pytest.mark.parametrize("name", MODELS)
def test_one_training_step_lowers_the_loss(name: str, small: Small) -> None:
    network, x = small(name)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    target = torch.arange(len(x)) % 4
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        loss = nn.functional.cross_entropy(network(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


@pytest.mark.parametrize("name", MODELS)
def test_same_seed_same_network(name: str, small_arguments_of: Arguments) -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(zoo.build(name, 4, **small_arguments_of(name)).state_dict())
    first, again, other = states
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("name", MODELS)
def test_state_dict_holds_all(name: str, small: Small, small_arguments_of: Arguments) -> None:
    network, x = small(name)
    again = zoo.build(name, 4, **small_arguments_of(name)).eval()
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again(x), network(x))


@pytest.mark.parametrize("name", MODELS)
def test_wrong_inputs_say_what_is_wrong(name: str, small: Small) -> None:
    network, x = small(name)
    with pytest.raises(ShapeError, match="expected 4"):
        network(x[0])
    with pytest.raises(ShapeError, match=r"channels and .* mel bands"):
        network(torch.cat([x, x], dim=1))
    with pytest.raises(ShapeError, match="transpose the last two axes"):
        network(x.transpose(2, 3))
    empty = x[:, :, :, :0] if zoo.entry(name).layout == "CFT" else x[:, :, :0]
    with pytest.raises(ShapeError, match="0 frames"):
        network(empty)


SHORTEST = {  # family: frames that just work with the small builds
    "seresnet": 1,
    "dsmn": 32,
    "cp_resnet": 65,
    "mbconv_deepsound": 1,
    "sepcnn": 16,
    "dcase_baseline": 25,
    "cp_mobile": 1,
}


@pytest.mark.parametrize("name", MODELS)
def test_shortest_segment(name: str, small: Small) -> None:
    network, x = small(name)
    frame_axis = 3 if zoo.entry(name).layout == "CFT" else 2
    low = SHORTEST[zoo.entry(name).family]
    with torch.no_grad():
        assert torch.isfinite(network(x.narrow(frame_axis, 0, low))).all()
        with pytest.raises(ShapeError, match="frames"):
            network(x.narrow(frame_axis, 0, low - 1))


@pytest.mark.parametrize("name", MODELS)
def test_other_segment_lengths(name: str, small: Small) -> None:
    """Crops and whole clips through one network; only the baselines have a fixed length."""
    network, x = small(name)
    longer = torch.cat([x, x.flip(-1, -2), x], dim=3 if zoo.entry(name).layout == "CFT" else 2)
    if zoo.entry(name).family == "dcase_baseline":
        with pytest.raises(ShapeError, match="25 to 49 frames"):
            network(longer)
        return
    with torch.no_grad():
        assert torch.isfinite(network(longer)).all()


@pytest.mark.parametrize(("frames", "rows"), [(5, 1), (51, 1), (500, 1), (44, 1)])
def test_baseline_adapts_its_last_pooling(frames: int, rows: int) -> None:
    network = zoo.build("dcase2021_baseline", frames=frames).eval()
    with torch.no_grad():
        features = network.features(torch.zeros(1, 1, 40, frames))  # type: ignore[operator]
    assert features.shape == (1, 32, 2, rows)


@pytest.mark.parametrize("name", MODELS)
def test_fx_tracing(name: str, small: Small) -> None:
    network, x = small(name)
    traced = torch.fx.symbolic_trace(network)
    with torch.no_grad():
        assert torch.equal(traced(x), network(x))
    with pytest.raises(ShapeError):  # the check is part of the graph
        traced(x.transpose(2, 3))


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_gives_the_same(name: str, small: Small) -> None:
    network, x = small(name)
    with torch.no_grad():
        expected = network(x)
        moved = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        found = moved(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_strided_projections_survive_channels_last_training() -> None:
    """A strided 1x1 with under 16 inputs would crash the process here, not fail."""
    network = zoo.build("seresnet18", 4, mels=16, strides=(1, 2, 2, 2), widths=(3, 5, 5, 7))
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2, 1, 16, 15).to(memory_format=torch.channels_last)
    network(x).sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_dsmn_group_outputs_can_be_left_away() -> None:
    network = zoo.build("dsmn_seg", 7, mels=32, frames=32, group_classes=0).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 2, 32, 32)).shape == (1, 7)
