from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from compressor.training.classifier import find_classifier

# Networks whose outputs are made by something after their last 1x1 convolution.
OTHERWISE = ("cp_resnet", "cp_resnet_36", "dcase2024_baseline")


def test_the_last_of_two_linear_layers() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 3))
    assert find_classifier(network, torch.ones(2, 4)) is network[3]
    assert network.training


def test_a_convolution_of_one_position_counts_and_one_before_a_mean_does_not() -> None:
    x = torch.randn(2, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Conv2d(5, 3, 1), nn.Flatten())
    assert find_classifier(network, x) is network[0]
    pooled = nn.Sequential(nn.Conv2d(5, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert find_classifier(pooled, x.expand(2, 5, 4, 4)) is None
    assert find_classifier(nn.Sequential(network, nn.Softmax(1)), x) is None


def test_looking_leaves_the_network_as_it_was() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    before = [value.clone() for value in network.state_dict().values()]
    find_classifier(network, torch.randn(3, 1, 4, 4))
    assert all(map(torch.equal, before, network.state_dict().values()))
    assert not any(layer._forward_hooks for layer in network.modules())


@pytest.mark.parametrize("name", zoo.list_models())
def test_networks_of_the_zoo(name: str) -> None:
    entry = zoo.entry(name)
    network = zoo.build(name)
    layer = find_classifier(network, torch.randn(1, *entry.input_shape))
    if name in OTHERWISE:
        assert layer is None
    else:
        assert isinstance(layer, nn.Linear)
        assert layer.out_features >= entry.num_classes
