"""Beside torchinfo, fvcore and ptflops on every zoo network, each difference explained.

torchinfo 1.8.0 is what the official counter of 2022 to 2025 calls: our `nessi` convention must
equal it to the digit. fvcore and ptflops count what the strict convention leaves out; the tests
compute that remainder independently, from the output sizes of the layers concerned.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from functools import cache
from typing import Any

import pytest
import torch
import torchinfo
from torch import nn
from torch.nn.utils import prune

import compressor
import zoo
from compressor.audit import AuditResult

pytestmark = pytest.mark.filterwarnings("ignore")


@cache
def built(name: str) -> tuple[nn.Module, tuple[int, ...], AuditResult]:
    model = zoo.build(name).eval()
    shape = (1, *zoo.entry(name).input_shape)
    return model, shape, compressor.audit(model, input_shape=shape)


def sizes_by_kind(model: nn.Module, shape: tuple[int, ...]) -> Counter[str]:
    """Output (pooling: input) elements by kind of layer, gathered with plain hooks."""
    sizes: Counter[str] = Counter()

    def note(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            sizes["batchnorm"] += output.numel()
        elif isinstance(module, nn.modules.conv._ConvNd):
            sizes["conv bias"] += output.numel() if module.bias is not None else 0
        elif isinstance(module, nn.Linear):
            sizes["linear bias"] += output.numel() if module.bias is not None else 0

    handles = [module.register_forward_hook(note) for module in model.modules()]
    with torch.no_grad():
        model(torch.randn(shape))
    for handle in handles:
        handle.remove()
    return sizes


@pytest.mark.parametrize("name", zoo.list_models())
def test_nessi_equals_torchinfo(name: str) -> None:
    model, shape, result = built(name)
    reference = torchinfo.summary(model, shape, verbose=0)
    assert result.macs_by_convention["nessi"] == reference.total_mult_adds
    assert result.params_by_convention["nessi"] == reference.total_params
    assert result.params == sum(p.numel() for p in model.parameters())
    assert result.status == "exact"
    assert sum(layer.macs_official for layer in result.layers) == reference.total_mult_adds


@pytest.mark.parametrize("name", zoo.list_models())
def test_fvcore_adds_batchnorm_and_adaptive_pooling(name: str) -> None:
    from fvcore.nn import FlopCountAnalysis

    model, shape, result = built(name)
    analysis = FlopCountAnalysis(model, torch.randn(shape))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    by_operator = dict(analysis.by_operator())
    products = sum(by_operator.pop(key, 0) for key in ("conv", "linear", "matmul", "einsum"))
    assert products == result.macs
    # the whole remainder: two operations for each BatchNorm output, one for each pooled input
    assert by_operator.pop("batch_norm", 0) == 2 * sizes_by_kind(model, shape)["batchnorm"]
    by_operator.pop("adaptive_avg_pool2d", 0)
    assert not by_operator


@pytest.mark.parametrize("name", zoo.list_models())
def test_ptflops_aten_backend_adds_biases(name: str) -> None:
    from ptflops import get_model_complexity_info

    model, shape, result = built(name)
    with contextlib.redirect_stdout(io.StringIO()):
        macs, _ = get_model_complexity_info(
            model, shape[1:], as_strings=False, print_per_layer_stat=False, backend="aten"
        )
    sizes = sizes_by_kind(model, shape)
    assert macs == result.macs + sizes["conv bias"] + sizes["linear bias"]


def test_ptflops_pytorch_backend_counts_every_layer() -> None:
    from ptflops import get_model_complexity_info

    # the 2022 baseline, layer by layer as ptflops counts it beyond the products
    model, shape, result = built("dcase2022_baseline")
    with contextlib.redirect_stdout(io.StringIO()):
        macs, _ = get_model_complexity_info(
            model, shape[1:], as_strings=False, print_per_layer_stat=False, backend="pytorch"
        )
    maps = 16 * 40 * 51, 16 * 40 * 51, 32 * 8 * 10  # the three convolution outputs
    biases = sum(maps) + 100 + 10
    batchnorm = 2 * sum(maps)
    relu = sum(maps) + 100
    pooling = maps[1] + maps[2]  # their inputs
    # ReLU and pooling stand twice: a hook on the module and a patched function inside it
    assert macs == result.macs + biases + batchnorm + 2 * relu + 2 * pooling


QUIRKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "grouped transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), (1, 4, 5, 5)),
    "linear 3-D": (nn.Linear(6, 4), (2, 7, 6)),
    "gru": (nn.GRU(5, 4, num_layers=2, bidirectional=True), (7, 1, 5)),
    "lstm batch": (nn.LSTM(5, 4, batch_first=True), (3, 7, 5)),
    "encoder": (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (1, 6, 8)),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3)), (1, 2, 5, 5)),
    "norms": (nn.Sequential(nn.GroupNorm(2, 4), nn.LayerNorm([4, 6, 6])), (2, 4, 6, 6)),
    "prelu": (nn.Sequential(nn.Conv1d(2, 4, 3), nn.PReLU(4)), (1, 2, 9)),
}


@pytest.mark.parametrize("case", QUIRKS)
def test_nessi_follows_torchinfo_in_its_quirks(case: str) -> None:
    model, shape = QUIRKS[case]
    reference = torchinfo.summary(model, shape, verbose=0)
    result = compressor.audit(model, input_shape=shape)
    assert result.macs_by_convention["nessi"] == reference.total_mult_adds
    assert result.params_by_convention["nessi"] == reference.total_params


def test_nessi_follows_torchinfo_on_tied_repeated_dead_and_masked_layers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 3, 3, padding=1)
            self.b = nn.Conv2d(3, 3, 3, padding=1)
            self.b.weight = self.a.weight
            self.dead = nn.Conv2d(3, 9, 3)
            self.own = nn.Parameter(torch.zeros(5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.b(self.a(self.a(x)))
            return out

    net = Net()
    prune.l1_unstructured(net.dead, "weight", 100)
    reference = torchinfo.summary(net, (1, 3, 6, 6), verbose=0)
    result = compressor.audit(net, input_shape=(1, 3, 6, 6))
    assert result.macs_by_convention["nessi"] == reference.total_mult_adds == 3 * 36 * 84
    assert result.params_by_convention["nessi"] == reference.total_params


GOLDEN = {  # name: (parameters, official MACs), the tables of the papers and baselines
    "seresnet18": (54_532, 1_051_041_980),
    "seresnet_107k": (107_170, 1_995_687_386),
    "dsmn_seg": (45_164, 8_645_641),
    "dsmn": (56_556, 25_441_889),
    "dsmn_mixed": (56_172, 16_746_033),
    "dsmn_seg_large": (121_812, 20_901_505),
    "cp_resnet": (1_059_590, 4_647_198_726),
    "cp_resnet_36": (86_046, 390_441_894),
    "sepcnn_coordatt": (75_562, 46_018_138),
    "dcase2022_baseline": (46_118, 29_271_638),
    "dcase2024_baseline": (61_148, 29_419_156),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_published_figures(name: str) -> None:
    _, _, result = built(name)
    assert (result.params, result.macs_by_convention["nessi"]) == GOLDEN[name]


@pytest.mark.parametrize(
    ("mels", "params", "macs"),
    [
        (160, 62_346, 397_379_470),
        (128, 62_282, 317_906_126),
        (64, 62_154, 158_959_438),
        (32, 62_090, 79_486_094),
    ],
)
def test_published_figures_of_mbconv_deepsound(mels: int, params: int, macs: int) -> None:
    result = compressor.audit(
        zoo.build("mbconv_deepsound", mels=mels), input_shape=(1, 1, 640, mels)
    )
    assert (result.params, result.macs_by_convention["nessi"]) == (params, macs)


def test_2024_baseline_in_float16() -> None:
    model = zoo.build("dcase2024_baseline").half()
    result = compressor.audit(model, input_shape=(1, 1, 256, 65))
    assert (result.macs, result.macs_by_convention["nessi"]) == (29_416_448, 29_419_156)
    assert (result.params, result.param_bytes) == (61_148, 122_296)
    assert result.bytes_by_dtype == {"float16": 122_296}


def no_zeros(model: nn.Module) -> nn.Module:
    """A trained network has none; a fresh BatchNorm has its shifts at zero."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.1, 1.0)
    return model


def test_2020_baseline_parameters_without_batchnorm() -> None:
    model = no_zeros(zoo.build("dcase2020_baseline"))
    result = compressor.audit(model, input_shape=(1, 1, 40, 500))
    assert result.params_by_convention["keras-2020"] == 115_219
    assert result.bytes_by_convention["keras-2020"] == 460_876  # 450.1 KB of 1,024 B
    assert result.params == 115_411  # with BatchNorm's affine parameters


def test_2021_baseline_parameters_with_moving_statistics() -> None:
    model = no_zeros(zoo.build("dcase2021_baseline"))
    result = compressor.audit(model, input_shape=(1, 1, 40, 500))
    assert result.params_by_convention["keras-2021"] == 46_246
    half = compressor.audit(model.half(), input_shape=(1, 1, 40, 500))
    assert half.bytes_by_convention["keras-2021"] == 92_492
    assert round(92_492 / 1024, 1) == 90.3  # as published


def test_zeros_are_left_out_by_the_keras_conventions() -> None:
    model = no_zeros(zoo.build("dcase2020_baseline"))
    with torch.no_grad():
        model.get_parameter(next(iter(dict(model.named_parameters())))).view(-1)[:100] = 0
    result = compressor.audit(model, input_shape=(1, 1, 40, 500))
    assert result.nonzero_by_convention["keras-2020"] == 115_119
    assert result.params_by_convention["keras-2020"] == 115_219
