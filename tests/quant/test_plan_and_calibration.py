"""Where values are rounded, and to which ranges; what cannot be quantised is named."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from compressor.errors import ConfigError, MeasureError, ShapeError, UnknownNameError
from compressor.methods.dataflow import trace
from compressor.methods.fold import fold
from compressor.methods.quant import INTEGER_OPERATORS, QatInt8, StaticInt8, quantize_static
from compressor.methods.quant.calibrate import _inner_bins, _least_divergence, calibrate
from compressor.methods.quant.plan import Plan, make_plan


class Gated(nn.Module):
    """Residual block with a gate, a concatenation and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.squeeze = nn.Conv2d(4, 4, 1)
        self.gate = nn.Sigmoid()
        self.side = nn.Conv2d(1, 4, 1)
        self.drop = nn.Dropout(0.5)
        self.fc1 = nn.Linear(8, 5)
        self.fc2 = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        y = self.relu(y * self.gate(self.squeeze(self.pool(y))) + self.side(x))
        y = torch.cat([y, y], dim=1).mean((2, 3))
        return self.fc2(self.drop(torch.relu(self.fc1(y))))


X = torch.randn(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def sites(model: nn.Module, **settings: object) -> tuple[list[str], Plan]:
    graph = trace(fold(model, X).model, X)
    plan = make_plan(graph, **({"operators": INTEGER_OPERATORS} | settings))  # type: ignore[arg-type]
    return [graph.names[node] for node in plan.sites], plan


def test_every_operator_has_its_site() -> None:
    """By hand: inputs of integer layers, outputs of convolutions behind their BatchNorm, the gate,
    the product, the sum behind its ReLU, the concatenation, the mean; the logits stay float."""
    names, plan = sites(Gated())
    assert names == [
        "input",
        "bn",
        "pool",
        "squeeze",
        "gate",
        "(mul)",
        "side",
        "relu",
        "(cat)",
        "(mean)",
        "(relu)",
    ]
    assert list(plan.weights) == ["conv", "squeeze", "side", "fc1", "fc2"]


def test_operators_in_float_need_fewer_sites() -> None:
    names, _ = sites(Gated(), operators=())
    # what layers read, and convolutions, which round at once; nothing else has to be on a grid
    assert names == ["input", "bn", "pool", "squeeze", "side", "(mean)", "(relu)"]


def test_layers_in_float() -> None:
    names, plan = sites(Gated(), keep_float=["fc1", "conv"])
    assert list(plan.weights) == ["squeeze", "side", "fc2"]
    assert "(mean)" not in names  # only fc1 read it
    names, plan = sites(Gated(), float_compute=["fc1"])
    assert list(plan.weights) == ["conv", "squeeze", "side", "fc1", "fc2"]
    assert "(mean)" not in names


def test_unknown_layers_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"layer in keep_float 'fc3'; did you mean .*fc"):
        sites(Gated(), keep_float=["fc3"])
    with pytest.raises(UnknownNameError, match=r"layer in float_compute 'x'"):
        sites(Gated(), float_compute=["x"])
    with pytest.raises(UnknownNameError, match=r"quantised layer in mixed 'fc9'"):
        quantize_static(Gated(), X, [X], StaticInt8(mixed={"fc9": 4}))
    with pytest.raises(MeasureError, match="no layer is left to quantise"):
        sites(nn.Sequential(nn.ReLU()))


def test_operators_that_cannot_be_quantised_are_named() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.norm = nn.GroupNorm(1, 2)
            self.fc = nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.norm(self.conv(x)).mean((2, 3)))

    with pytest.raises(MeasureError, match=r"layer 'norm': GroupNorm cannot be .*\['norm'\]"):
        quantize_static(Strange(), X, [X])
    kept = quantize_static(Strange(), X, [X], StaticInt8(keep_float=("norm",)))
    assert list(kept.weights) == ["conv", "fc"]
    assert b"GroupNormalization" in kept.to_onnx()

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.conv(x)).mean((2, 3))

    with pytest.raises(MeasureError, match="layer 'conv' is called 2 times"):
        quantize_static(Twice(), X, [X])
    reflecting = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"))
    with pytest.raises(MeasureError, match=r"layer '0' pads with \(1, 1\) \(reflect\)"):
        quantize_static(reflecting, X, [X])


def test_calibration_data_is_checked() -> None:
    with pytest.raises(ShapeError, match=r"batch 1 has the shape \(4, 1, 6, 5\).*\(clips, 1, 6, 6"):
        quantize_static(Gated(), X, [X, X[..., :5]])
    with pytest.raises(ConfigError, match="at least one clip, found none"):
        quantize_static(Gated(), X, [])
    with pytest.raises(MeasureError, match="calibration batch 0 holds values that are not finite"):
        quantize_static(Gated(), X, [X / 0])
    model = Gated()
    with torch.no_grad():
        model.side.weight[0] = float("inf")
    with pytest.raises(MeasureError, match="layer 'side': weight holds values"):
        quantize_static(model, X, [X])
    used = quantize_static(Gated(), X, [X, X, X], StaticInt8(calibration_clips=5))
    assert used.settings["clips_used"] == 5


def test_minmax_ranges_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.fill_(2.0)
    x = torch.tensor([[-1.0, 0.5, 0.25, 3.0], [1.0, 1.5, -2.0, 0.0]]).reshape(2, 1, 2, 2)
    graph = trace(model.eval(), x)
    plan = make_plan(graph, operators=())
    found = calibrate(graph, plan.sites, [x[:1], x[1:]])
    assert found["input"].scale == pytest.approx(5 / 255)  # from -2 to 3
    assert found["input"].zero_point == 102  # 2 / (5 / 255)
    assert found["1"].scale == pytest.approx(6 / 255)  # 2 x 3, nothing below zero
    assert found["1"].zero_point == 0


def test_percentile_and_entropy_leave_an_outlier_out() -> None:
    counts = torch.zeros(2048, dtype=torch.float64)
    counts[0:100] = 1.0  # 100 values in the first 100 bins, one in the last
    counts[2047] = 1.0
    # 98 % of 101 values: 1 % on each end, 1.01 values: from bin 1 to bin 99
    assert _inner_bins(counts, 98.0) == (1, 100)
    assert _inner_bins(counts, 100.0) == (0, 2048)
    generator = torch.Generator().manual_seed(0)
    bell = torch.histc(torch.randn(200_000, generator=generator).abs(), 2048, 0, 40)
    first, last = _least_divergence(bell.double(), 0.0, 40.0)
    # 2048 bins for 40 sigma: nearly everything lies in the first 205 (4 sigma)
    assert first == 0
    assert 128 <= last <= 260
    # a million exact zeros, as behind a ReLU, change nothing
    rectified = bell.double()
    rectified[0] += 1e6
    assert _least_divergence(rectified, 0.0, 40.0) == (first, last)


@pytest.mark.parametrize(("low", "high"), [(5.0, 6.0), (-6.0, -5.0)])
@pytest.mark.parametrize("method", ["percentile", "entropy"])
def test_values_far_from_zero(method: str, low: float, high: float) -> None:
    """A gate that is never nearly closed: the grid reaches from zero to almost its largest."""
    model = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False)).eval()
    graph = trace(model, torch.zeros(1, 1, 4, 4))
    x = torch.linspace(low, high, 1600).reshape(100, 1, 4, 4)
    found = calibrate(graph, make_plan(graph).sites, [x], method)["input"]
    assert found.zero_point == (0 if low > 0 else 255)
    assert 5.5 / 255 <= found.scale <= 6 / 255 + 1e-6


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
def test_every_calibration_gives_a_working_network(
    method: str, trained: nn.Module, clips: object
) -> None:
    x, y = clips(64, 50)  # type: ignore[operator]
    network = quantize_static(trained, x, [x], StaticInt8(calibration=method))  # type: ignore[arg-type]
    test, y = clips(256, 51)  # type: ignore[operator]
    with torch.no_grad():
        float_accuracy = (trained(test).argmax(1) == y).float().mean()
    accuracy = (network.simulate(test).argmax(1) == y).float().mean()
    assert float_accuracy > 0.9  # else the comparison says nothing
    assert accuracy >= float_accuracy - 0.02


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"weight_bits": 9}, ConfigError, "weight_bits is 9, but must be 2 to 8"),
        ({"weight_bits": 1}, ConfigError, "2 to 8"),
        ({"mixed": {"fc": True}}, ConfigError, r"mixed\['fc'\] is True"),
        ({"mixed": ["fc"]}, ConfigError, "must map layers to bits"),
        ({"calibration": "maximum"}, UnknownNameError, "unknown calibration 'maximum'"),
        ({"calibration_clips": 0}, ConfigError, "calibration_clips is 0"),
        ({"percentile": 101}, ConfigError, "percentile is 101"),
        ({"keep_float": "fc"}, ConfigError, "must be a list of names"),
        ({"integer_operators": ("div",)}, UnknownNameError, "integer operator 'div'"),
        ({"per_channel": 1}, ConfigError, "per_channel is 1"),
    ],
)
def test_settings_are_checked(
    settings: dict[str, object], error: type[Exception], message: str
) -> None:
    for kind in (StaticInt8, QatInt8):
        with pytest.raises(error, match=message):
            kind(**settings)  # type: ignore[arg-type]


def test_settings_go_to_plain_values_and_back() -> None:
    import json

    for config in (
        StaticInt8(keep_float=("a",), mixed={"b": 4}, calibration="entropy", equalize=True),
        QatInt8(engine="brevitas", freeze_after=0.5, weight_bits=4),
    ):
        plain = json.loads(json.dumps(config.to_dict()))
        assert type(config).from_dict(plain) == config
    with pytest.raises(UnknownNameError, match=r"'weight_bit'; did you mean weight_bits"):
        StaticInt8.from_dict({"weight_bit": 4})
    with pytest.raises(UnknownNameError, match="QAT engine 'pytorch'"):
        QatInt8(engine="pytorch")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="freeze_after is 2"):
        QatInt8(freeze_after=2)
