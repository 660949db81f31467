"""Every channel group that a dependency graph finds can be sliced, and slicing equals masking.

The project's own surgery has its tests elsewhere; here torch-pruning alone shows that the networks
are written so that a generic tool can follow them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
import torch_pruning as tp
from torch import Tensor, nn

import zoo
from zoo.layers import ECA

MODELS = zoo.list_models()
Small = Callable[[str], tuple[nn.Module, Tensor]]


class ECAPruner(tp.pruner.BasePruningFunc):  # type: ignore[misc]
    """Tells torch-pruning that ECA's channels pass straight through."""

    def prune_out_channels(self, layer: ECA, idxs: Sequence[int]) -> nn.Module:
        gone = set(idxs)
        layer.set_kept(layer.kept[[i for i in range(layer.channels) if i not in gone]])
        return layer

    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: ECA) -> int:
        return layer.channels

    get_in_channels = get_out_channels


# groups that exist beside the classifier and the attention bottlenecks
GROUPS = {
    "dcase2020_baseline": 3,
    "cp_resnet": 7,
    "cp_resnet_36": 7,
    "dcase2021_baseline": 4,
    "mbconv_deepsound": 16,
    "seresnet18": 11,
    "resnet18": 11,
    "seresnet_107k": 19,
    "dcase2022_baseline": 4,
    "sepcnn_coordatt": 5,
    "dsmn_seg": 7,
    "dsmn": 17,
    "dsmn_mixed": 15,
    "dsmn_seg_large": 7,
    "dcase2024_baseline": 10,
}


@pytest.mark.parametrize("name", MODELS)
def test_slicing_equals_masking(name: str, small: Small) -> None:
    network, x = small(name)
    sliced, masked = copy.deepcopy(network), copy.deepcopy(network)
    graph = tp.DependencyGraph()
    graph.build_dependency(sliced, example_inputs=x[:1], customized_pruners={ECA: ECAPruner()})
    names = {module: key for key, module in sliced.named_modules()}
    ignored = [sliced.get_submodule(key) for key in zoo.entry(name).ignored_layers]
    groups = list(
        graph.get_all_groups(ignored_layers=ignored, root_module_types=[nn.Conv2d, nn.Linear])
    )
    assert len(groups) == GROUPS[name]
    before = sum(p.numel() for p in sliced.parameters())
    for group in groups:
        root = group[0].dep
        width = len(group[0].idxs)
        assert width > 1, f"{names[root.target.module]} has lost its channels"
        gone = list(range(0, width, 3))
        cut = graph.get_pruning_group(root.target.module, root.handler, gone)
        for dep, idxs in cut:
            layer = names.get(dep.target.module)
            if layer is None:
                continue
            twin = masked.get_submodule(layer)
            outputs = dep.handler.__name__ in (
                "prune_out_channels",
                "prune_depthwise_conv_out_channels",
            )
            if isinstance(twin, nn.BatchNorm2d) or (outputs and not isinstance(twin, ECA)):
                with torch.no_grad():
                    assert isinstance(twin, (nn.BatchNorm2d, nn.Conv2d, nn.Linear))
                    twin.weight[idxs] = 0
                    if twin.bias is not None:
                        twin.bias[idxs] = 0
        cut.prune()
    assert sum(p.numel() for p in sliced.parameters()) < 0.75 * before
    with torch.no_grad():
        expected, found, whole = masked(x), sliced(x), network(x)
    assert (expected - whole).abs().max() > 1e-2 * whole.abs().max(), "masking changes nothing"
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_dsmn_halving_takes_channels_in_pairs(small: Small) -> None:
    """Removing output j of the halving 1x1 removes its two inputs j and j + h, and no other."""
    network, x = small("dsmn_seg")
    graph = tp.DependencyGraph()
    graph.build_dependency(network, example_inputs=x[:1], customized_pruners={ECA: ECAPruner()})
    block: nn.Module = network.get_submodule("blocks.1")
    second = block.get_submodule("c2.bn")
    half = second.num_features // 2  # type: ignore[operator]
    group = graph.get_pruning_group(
        block.get_submodule("c3.pw"), tp.prune_depthwise_conv_out_channels, [1]
    )
    touched = {dep.target.module: sorted(set(idxs)) for dep, idxs in group}
    assert touched[second] == [1, 1 + half]
