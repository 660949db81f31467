"""Parameters and multiply-accumulates, to the digit, by an independent counter.

The counter is torchinfo 1.8.0 at batch size 1, which is what the challenge's own tool reports:
convolutions count weights and biases at each output position, linear and BatchNorm layers count
their parameters once.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
import torchinfo
from torch import nn

import zoo

MODELS = zoo.list_models()

# name: (parameters, MACs by the official counter)
COUNTS = {
    "dcase2020_baseline": (115_411, 112_346_195),
    "cp_resnet": (1_059_590, 4_647_198_726),
    "cp_resnet_36": (86_046, 390_441_894),
    # as 2022, on 500 frames: 800 * 20,000 + 12,560 * 20,000 + 25,120 * 800 + 128 + 6,500 + 1,010
    "dcase2021_baseline": (46_118, 287_303_638),
    "mbconv_deepsound": (62_346, 397_379_470),
    "seresnet18": (54_532, 1_051_041_980),
    # without the 962 SE parameters, which count once each
    "resnet18": (54_532 - 962, 1_051_041_980 - 962),
    "seresnet_107k": (107_170, 1_995_687_386),
    "dcase2022_baseline": (46_118, 29_271_638),
    "sepcnn_coordatt": (75_562, 46_018_138),
    "dsmn_seg": (45_164, 8_645_641),
    "dsmn": (56_556, 25_441_889),
    "dsmn_mixed": (56_172, 16_746_033),
    "dsmn_seg_large": (121_812, 20_901_505),
    "dcase2024_baseline": (61_148, 29_419_156),
}


def summary(network: nn.Module, shape: tuple[int, ...]) -> torchinfo.ModelStatistics:
    return torchinfo.summary(network, (1, *shape), verbose=0, depth=9, device="cpu")


def by_part(network: nn.Module, shape: tuple[int, ...], depth: int) -> dict[str, tuple[int, int]]:
    """(parameters, MACs) of all leaf layers, summed by the first `depth` parts of their names."""
    names = {module: name for name, module in network.named_modules()}
    sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for layer in summary(network, shape).summary_list:
        if layer.is_leaf_layer and layer.num_params > 0:
            total = sums[".".join(names[layer.module].split(".")[:depth])]
            total[0] += layer.num_params
            total[1] += layer.macs
    return {name: (params, macs) for name, (params, macs) in sums.items()}


def test_every_network_has_its_counts_here() -> None:
    assert set(COUNTS) == set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_counts_of_the_default_build(name: str) -> None:
    counted = summary(zoo.build(name), zoo.entry(name).input_shape)
    assert (counted.total_params, counted.total_mult_adds) == COUNTS[name]
    assert counted.trainable_params == counted.total_params


@pytest.mark.parametrize(
    ("mels", "params", "macs"),
    [
        (160, 62_346, 397_379_470),
        (128, 62_282, 317_906_126),
        (64, 62_154, 158_959_438),
        (32, 62_090, 79_486_094),
    ],
)
def test_deepsound_at_the_published_mel_bands(mels: int, params: int, macs: int) -> None:
    entry = zoo.entry("mbconv_deepsound")
    counted = summary(zoo.build("mbconv_deepsound", mels=mels), entry.shape(mels=mels))
    assert (counted.total_params, counted.total_mult_adds) == (params, macs)
    # Table 7: size in float16 at 1,024 bytes a KB
    size = f"size, float16, {mels} mel bands"
    assert round(2 * params / 1024, 1) == {f.quantity: f.value for f in entry.reported}[size]


def test_deepsound_on_crops_of_eight_seconds() -> None:
    shape = zoo.entry("mbconv_deepsound").shape(frames=512)
    assert summary(zoo.build("mbconv_deepsound"), shape).total_mult_adds == 317_906_190


TABLE_6 = (
    ("BatchNorm", ("bn0",), 320),
    ("Conv2d", ("stem.0",), 96),
    ("BatchNorm + swish", ("stem.1",), 12),
    ("Fused-MBConv4(6, 12)", ("body.0",), 1_801),
    ("Fused-MBConv4(12, 12)", ("body.1",), 6_219),
    ("MBConv4(12, 18)", ("body.2",), 2_655),
    ("MBConv4(18, 18)", ("body.3",), 4_216),
    ("MBConv4(18, 18)", ("body.4",), 4_216),
    ("MBConv4(18, 24)", ("body.5",), 5_092),
    ("MBConv4(24, 24)", ("body.6",), 7_158),
    ("MBConv4(24, 24)", ("body.7",), 7_158),
    ("MBConv4(24, 30)", ("body.8",), 8_466),
    ("MBConv4(30, 30)", ("body.9",), 10_627),
    ("Conv2d", ("top.0",), 3_100),
    ("BatchNorm + swish", ("top.1",), 200),
    ("Fully connected", ("fc",), 1_010),
)


@pytest.mark.parametrize(("row", "modules", "params"), TABLE_6)
def test_deepsound_table_6(row: str, modules: tuple[str, ...], params: int) -> None:
    network = zoo.build("mbconv_deepsound")
    found = sum(p.numel() for name in modules for p in network.get_submodule(name).parameters())
    assert found == params, row


def test_deepsound_table_6_is_the_whole_network() -> None:
    assert sum(params for _, _, params in TABLE_6) == 62_346


@pytest.mark.parametrize(("inputs", "outputs"), [(12, 18), (18, 18), (18, 24), (24, 30), (30, 30)])
@pytest.mark.parametrize("fused", [False, True])
def test_deepsound_table_5_formulas(inputs: int, outputs: int, fused: bool) -> None:
    from zoo.deepsound2021 import MBConv4

    i, o, squeeze = inputs, outputs, inputs // 4
    shared = 4 * i * o + 2 * o + (1 + 4 * i) * squeeze + 4 * i * (1 + squeeze)
    own = 36 * i * i + 8 * i if fused else 4 * i * i + 8 * i + 36 * i + 8 * i
    shortcut = i * o if i != o else 0
    block = MBConv4(i, o, (1, 1), fused=fused)
    assert sum(p.numel() for p in block.parameters()) == own + shared + shortcut


# (parameters, MACs) of each part, summed from the layer tables
PARTS = {
    "seresnet18": {
        "stem": (88, 1_440_016),
        "layers.0": (1_209, 23_040_057),
        "layers.1": (1_209, 23_040_057),
        "layers.2": (3_762, 71_680_178),
        "layers.3": (4_754, 92_160_146),
        "layers.4": (4_754, 92_160_146),
        "layers.5": (4_754, 92_160_146),
        "layers.6": (14_820, 286_720_484),
        "layers.7": (18_852, 368_640_420),
        "fc": (330, 330),
    },
    "dsmn_seg": {
        "stem": (48, 540_672),
        "blocks.0": (907, 4_370_584),
        "blocks.1": (1_635, 2_039_004),
        "blocks.2": (3_011, 957_776),
        "blocks.3": (7_875, 594_464),
        "blocks.4": (7_875, 119_328),
        "l1": (22_500, 22_500),
        "l2": (1_313, 1_313),
    },
    "dsmn": {
        "stem": (48, 540_672),
        "blocks.0": (1_291, 13_066_440),
        "blocks.1": (2_403, 6_240_548),
        "blocks.2": (5_059, 3_357_104),
        "blocks.3": (11_971, 1_843_936),
        "blocks.4": (11_971, 369_376),
        "l1": (22_500, 22_500),
        "l2": (1_313, 1_313),
    },
    "cp_resnet": {
        "stem": (6_656, 112_979_456),
        "body.0": (164_352, 2_892_268_032),
        "body.2": (295_424, 1_281_982_976),
        "body.4": (295_424, 310_837_760),
        "body.6": (164_352, 41_779_712),
        "body.8": (132_608, 7_341_568),
        "head": (774, 9_222),
    },
    "mbconv_deepsound": {
        "bn0": (320, 320),
        "stem": (108, 9_830_412),
        "body.0": (1_801, 42_393_745),
        "body.1": (6_219, 147_456_459),
        "body.2": (2_655, 34_099_767),
        "body.3": (4_216, 41_472_976),
        "body.4": (4_216, 41_472_976),
        "body.5": (5_092, 25_575_388),
        "body.6": (7_158, 17_512_086),
        "body.7": (7_158, 17_512_086),
        "body.8": (8_466, 10_945_698),
        "body.9": (10_627, 6_626_347),
        "top": (3_300, 2_480_200),
        "fc": (1_010, 1_010),
    },
    "sepcnn_coordatt": {
        "bn0": (512, 512),
        "body.0": (2_392, 5_375_344),
        "body.1": (12_824, 25_559_488),
        "body.2": (21_016, 12_239_336),
        "body.3": (21_016, 2_825_656),
        "fc1": (16_512, 16_512),
        "fc2": (1_290, 1_290),
    },
    "dcase2020_baseline": {
        "features": (1_600 + 64 + 100_416 + 128, 32_000_000 + 64 + 80_332_800 + 128),
        "dense1": (12_900, 12_900),
        "dense2": (303, 303),
    },
    "dcase2022_baseline": {
        "features": (800 + 12_560 + 25_120 + 128, 1_632_000 + 25_622_400 + 2_009_600 + 128),
        "dense1": (6_500, 6_500),
        "dense2": (1_010, 1_010),
    },
}


@pytest.mark.parametrize("name", PARTS)
def test_counts_of_each_part(name: str) -> None:
    nested = {"layers", "blocks", "body"}
    found: dict[str, tuple[int, int]] = {}
    for part, (params, macs) in by_part(zoo.build(name), zoo.entry(name).input_shape, 2).items():
        key = part if part.split(".")[0] in nested else part.split(".")[0]
        before = found.get(key, (0, 0))
        found[key] = (before[0] + params, before[1] + macs)
    assert found == PARTS[name]


def test_seresnet_strides_add_a_projection() -> None:
    # the third stage keeps 16 channels, but its stride asks for a projection: 16 * 16 + 2 * 16
    counted = summary(zoo.build("seresnet18", strides=(1, 2, 2, 2)), (1, 40, 500))
    assert (counted.total_params, counted.total_mult_adds) == (54_820, 110_643_932)
    assert 54_820 - 54_532 == 16 * 16 + 2 * 16


@pytest.mark.parametrize(("reduction", "se_params"), [(8, 962), (16, 570), (4, 1_780)])
def test_seresnet_se_reduction(reduction: int, se_params: int) -> None:
    params = sum(p.numel() for p in zoo.build("seresnet18", se_reduction=reduction).parameters())
    assert params == 53_240 + 330 + se_params


@pytest.mark.parametrize("width", [32, 35, 36, 128])
def test_cp_resnet_parameters_by_width(width: int) -> None:
    params = sum(p.numel() for p in zoo.build("cp_resnet", width=width).parameters())
    assert params == 64 * width**2 + 86 * width + 6


@pytest.mark.parametrize(
    ("hidden", "params", "macs"), [(64, 121_812, 20_901_505), (100, 140_748, 20_920_441)]
)
def test_dsmn_model_4_has_either_the_published_params_or_macs(
    hidden: int, params: int, macs: int
) -> None:
    counted = summary(zoo.build("dsmn_seg_large", hidden=hidden), (2, 256, 44))
    assert (counted.total_params, counted.total_mult_adds) == (params, macs)


def test_dsmn_without_group_outputs() -> None:
    # three outputs of 100 weights and a bias less
    params = sum(p.numel() for p in zoo.build("dsmn_seg", group_classes=0).parameters())
    assert params == 45_164 - 3 * 101


@pytest.mark.parametrize(("frames", "macs"), [(44, 46_018_138), (28, 29_471_338), (22, 22_578_570)])
def test_sepcnn_macs_by_segment(frames: int, macs: int) -> None:
    shape = zoo.entry("sepcnn_coordatt").shape(frames=frames)
    assert summary(zoo.build("sepcnn_coordatt"), shape).total_mult_adds == macs


@pytest.mark.parametrize(("channels", "params"), [(64, 1_688), (128, 3_352)])
def test_coordinate_attention_parameters(channels: int, params: int) -> None:
    from zoo.pku2022 import CoordinateAttention

    assert sum(p.numel() for p in CoordinateAttention(channels).parameters()) == params
    assert params == 3 * 8 * channels + 24 + 2 * channels


def batchnorm_params(network: nn.Module) -> int:
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    return sum(p.numel() for norm in norms for p in norm.parameters())


def test_baseline_2020_without_batchnorm() -> None:
    network = zoo.build("dcase2020_baseline")
    assert batchnorm_params(network) == 192
    without = COUNTS["dcase2020_baseline"][0] - 192
    assert without == 1_600 + 100_416 + 12_900 + 303 == 115_219
    assert 4 * without == 460_876  # 450.1 KB


def test_baseline_2021_with_moving_statistics() -> None:
    network = zoo.build("dcase2021_baseline")
    statistics = [b.numel() for name, b in network.named_buffers() if "running" in name]
    assert sum(p.numel() for p in network.parameters()) + sum(statistics) == 46_246


def test_baseline_2022_folded_to_int8() -> None:
    layers = [
        m
        for m in zoo.build("dcase2022_baseline").modules()
        if isinstance(m, (nn.Conv2d, nn.Linear))
    ]
    weights = sum(m.weight.numel() for m in layers)
    biases = sum(m.bias.numel() for m in layers if m.bias is not None)
    assert (weights, biases, weights + 4 * biases) == (45_816, 174, 46_512)


def test_baseline_2024_strict_macs() -> None:
    """Convolutions only: the official count less one pass of BatchNorm parameters."""
    network = zoo.build("dcase2024_baseline").eval()
    macs = 0

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal macs
        assert isinstance(module, nn.Conv2d)
        assert module.bias is None
        macs += module.weight.numel() * output.shape[2] * output.shape[3]

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        network(torch.zeros(1, 1, 256, 65))
    assert macs == 29_416_448
    assert macs + batchnorm_params(network) == 29_419_156
