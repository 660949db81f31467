from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from compressor.training.classifier import Classifier, find_classifier

# Networks that end in a 1x1 convolution, BatchNorm and the mean over all positions.
POOLED = ("cp_resnet", "cp_resnet_36", "dcase2024_baseline")


def test_the_last_of_two_linear_layers() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 3))
    assert find_classifier(network, torch.ones(2, 4)) == Classifier(network[3])
    assert network.training


def test_a_convolution_of_one_position_counts() -> None:
    x = torch.randn(2, 5, 1, 1, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Conv2d(5, 3, 1), nn.Flatten())
    assert find_classifier(network, x) == Classifier(network[0])
    assert find_classifier(nn.Sequential(network, nn.Softmax(1)), x) is None


def pooled(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_a_convolution_before_a_mean_counts_with_and_without_batchnorm() -> None:
    x = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    plain = pooled(nn.Conv2d(5, 3, 1))
    assert find_classifier(plain, x) == Classifier(plain[0])
    # untrained, BatchNorm returns very nearly what it is given, and must still be seen
    normalised = pooled(nn.Conv2d(5, 3, 1), nn.BatchNorm2d(3))
    found = find_classifier(normalised, x)
    assert found == Classifier(normalised[0], normalised[1])
    assert found is not None
    assert len(list(found.parameters())) == 4


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(5, 3, 3),),
        (nn.Conv2d(5, 3, 1), nn.ReLU()),
        (nn.Conv2d(5, 3, 1), nn.AdaptiveMaxPool2d(1)),
        (nn.Conv2d(5, 3, 1, stride=2),),
        (nn.Conv2d(5, 3, 1, padding=1),),
        (nn.Conv2d(5, 3, 1), nn.BatchNorm2d(3, affine=False)),
        (nn.Conv2d(5, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        (nn.Conv2d(5, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
        (nn.Conv2d(5, 3, 1), nn.BatchNorm2d(3), nn.ReLU()),
    ],
)
def test_what_is_not_linear_in_one_embedding_does_not(layers: tuple[nn.Module, ...]) -> None:
    x = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    assert find_classifier(pooled(*layers), x) is None


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
    found = find_classifier(network, torch.randn(1, *entry.input_shape))
    assert found is not None
    assert found.layer.weight.shape[0] >= entry.num_classes
    assert (found.norm is not None) == isinstance(found.layer, nn.Conv2d) == (name in POOLED)
