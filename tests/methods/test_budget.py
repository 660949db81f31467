"""Pruning to a limit: predicted sizes are the counted ones, the least removal is the least."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from compressor.audit import audit, planned_bytes
from compressor.audit.rules import load_rules, rules_for
from compressor.errors import ConfigError, PruneError, UnknownNameError
from compressor.methods import Budget, NumberType, Slimming, slim
from compressor.methods.budget import Sizes, Sizing, measure_sizes, rules_named
from compressor.methods.surgery import PrunePlan, channel_groups, plan_removal, slice_channels

X = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Chain(nn.Module):
    """With a and b channels left of 4 and 6, on 6 x 6 positions:

    parameters 9a + 2a + 9ab + 2b + 3b + 3; strict MACs 36 (9a + 9ab) + 3b; the official counter
    counts BatchNorm's 2a + 2b and the linear layer's 3b + 3 parameters once each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        return self.fc(self.bn2(self.conv2(x)).relu().mean((2, 3)))


def chain() -> Chain:
    torch.manual_seed(0)
    model = Chain()
    with torch.no_grad():
        model.bn1.weight.copy_(torch.tensor([0.1, -0.9, 0.3, -0.5]))
        model.bn2.weight.copy_(torch.tensor([0.2, 0.8, -0.4, 1.0, 0.6, 0.7]))
        for norm in (model.bn1, model.bn2):
            norm.bias.uniform_(0.1, 1)
            norm.running_mean.uniform_(0.1, 1)
    return model.eval()


# The removal order by |gamma|, two of each group kept: conv1 0 (.1), conv2 0 (.2), conv1 2 (.3),
# conv2 2 (.4), conv2 4 (.6), conv2 5 (.7) [then the floors hold].
WIDTHS = [(4, 6), (3, 6), (3, 5), (2, 5), (2, 4), (2, 3), (2, 2)]


def params(a: int, b: int) -> int:
    return 9 * a + 2 * a + 9 * a * b + 2 * b + 3 * b + 3


def macs(a: int, b: int) -> int:
    return 36 * (9 * a + 9 * a * b) + 3 * b


def official(a: int, b: int) -> int:
    return 36 * (9 * a + 9 * a * b) + 2 * a + 2 * b + 3 * b + 3


def int8(a: int, b: int) -> int:
    """BatchNorm folded: one byte a weight, four for each of the a + b + 3 biases."""
    return 9 * a + 9 * a * b + 3 * b + 4 * (a + b + 3)


def fitted(budget: Budget, **options: Any) -> Any:
    config = replace(Slimming(0.0), **options)
    return slim(chain(), X, config, budget=budget)


@pytest.mark.parametrize(
    ("target", "of", "kind"),
    [("params", params, "float32"), ("macs", macs, "float32"), ("bytes", int8, "int8")],
)
def test_the_least_removal_that_fits(target: str, of: Any, kind: str) -> None:
    sizes = [of(a, b) for a, b in WIDTHS]
    assert sizes == sorted(sizes, reverse=True)
    for limit in {*sizes, *(s + 1 for s in sizes), *(s - 1 for s in sizes[:-1])}:
        widths = next(w for w in WIDTHS if of(*w) <= limit)
        result = fitted(Budget(**{target: limit}, number_type=NumberType(kind)))
        assert (result.kept["conv1"][0], result.kept["conv2"][0]) == widths
        assert result.params_after == params(*widths)
        assert result.sizes.macs == macs(*widths) if kind == "float32" else True


def test_figures_by_hand() -> None:
    sizes = measure_sizes(chain(), X)
    assert sizes == Sizes(
        params=params(4, 6),
        nonzero_params=params(4, 6),
        param_bytes=4 * params(4, 6),
        macs=macs(4, 6),
        macs_official=official(4, 6),
        nonzero_bytes={
            "strict": 4 * params(4, 6),
            "keras-2020": 4 * (params(4, 6) - 2 * 4 - 2 * 6),
            # moving statistics: 2 (4 + 6), none of them zero
            "keras-2021": 4 * (params(4, 6) + 2 * 4 + 2 * 6),
        },
    )
    assert measure_sizes(chain(), X, NumberType("float16")).param_bytes == 2 * params(4, 6)
    folded = measure_sizes(chain(), X, NumberType("int8"))
    assert folded.param_bytes == int8(4, 6)
    # 4-bit weights in conv2: half a byte for each of its 216
    mixed = NumberType("int8", mixed={"conv2": 4})
    assert measure_sizes(chain(), X, mixed).param_bytes == int8(4, 6) - 216 // 2
    # 3 bits are held as 4, 5 to 7 as 8
    for bits, taken in ((3, 4), (7, 8)):
        found = measure_sizes(chain(), X, NumberType("int8", mixed={"conv2": bits}))
        assert found.param_bytes == int8(4, 6) - 216 * (8 - taken) // 8
    # the linear layer in float32: three bytes more for each of its 18 weights
    kept = NumberType("int8", keep_float=("fc",))
    assert measure_sizes(chain(), X, kept).param_bytes == int8(4, 6) + 3 * 18


def test_limits_hold_all_at_once() -> None:
    # (3, 5) has 201 parameters; 36 (27 + 135) + 15 = 5,847 MACs; 804 B
    assert (params(3, 5), macs(3, 5)) == (196, 5847)
    result = fitted(Budget(params=params(4, 6), macs=5847, bytes=10**6))
    assert (result.kept["conv1"][0], result.kept["conv2"][0]) == (3, 5)
    narrower = fitted(Budget(macs=5847, bytes=4 * params(2, 5)))
    assert (narrower.kept["conv1"][0], narrower.kept["conv2"][0]) == (2, 5)


def test_a_limit_that_is_kept_already_removes_nothing() -> None:
    result = fitted(Budget(params=10**6))
    assert result.plan == PrunePlan()
    assert result.params_after == result.params_before


def test_impossible_limits_say_what_can_be_reached() -> None:
    smallest = macs(2, 2)
    with pytest.raises(PruneError, match=rf"100 MACs.* cannot be reached: .* has {smallest:,};"):
        fitted(Budget(macs=100))
    with pytest.raises(ConfigError, match="needs params, macs, bytes or rules"):
        Budget()
    with pytest.raises(ConfigError, match="target_macs is 0"):
        Budget(macs=0)
    with pytest.raises(ConfigError, match="number type is 'int9'"):
        NumberType("int9")


def test_rules_by_name_and_by_file(tmp_path: Any) -> None:
    assert rules_named("dcase2023") is rules_named("2023") is rules_for(2023)
    with pytest.raises(UnknownNameError, match=r"did you mean .*dcase2023"):
        rules_named("dcase2032")
    own = tmp_path / "own.toml"
    own.write_text(
        'title = "ours"\n'
        '[[limit]]\nname = "size"\nmetric = "param_bytes"\nmax = 800\n'
        '[[limit]]\nname = "work"\nmetric = "macs"\nmax = 100000\n'
    )
    result = fitted(Budget(rules=rules_named(str(own))))
    # 800 B are 200 parameters: (3, 5) has 196, (3, 6) has 228
    assert params(3, 6) == 228
    assert (result.kept["conv1"][0], result.kept["conv2"][0]) == (3, 5)
    own.write_text(
        'title = "ours"\n[[limit]]\nname = "m"\nmetric = "peak_activation_bytes"\nmax = 8\n'
    )
    with pytest.raises(ConfigError, match="pruning cannot fit limit 'm'"):
        Budget(rules=load_rules(own))


def test_2021_counts_non_zero_numbers_and_the_stricter_reading() -> None:
    rules = rules_for(2021)
    assert rules.limits[0].strictest == 128_000
    sizes = Sizes(40_000, 31_000, 160_000, 1, 1, {"strict": 124_000, "keras-2021": 128_004})
    (over,) = Budget(rules=rules).over(sizes)
    assert (over.value, over.limit) == (128_004, 128_000)
    fine = replace(sizes, nonzero_bytes={"strict": 124_000, "keras-2021": 128_000})
    assert Budget(rules=rules).over(fine) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [("seresnet18", "float32"), ("dsmn_seg", "int8"), ("mbconv_deepsound", "float16")],
)
def test_predicted_equals_counted(make_small: Any, name: str, kind: str) -> None:
    check_predictions(make_small(name), kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
@pytest.mark.parametrize("name", zoo.list_models())
def test_predicted_equals_counted_everywhere(make_small: Any, name: str, kind: str) -> None:
    check_predictions(make_small(name), kind)


def check_predictions(network: Any, kind: str) -> None:
    """Half of every group gone: shapes alone against an audit of the sliced network."""
    model, x = network.build(seed=2), network.example()
    groups = channel_groups(model, x, network.ignored)
    sizing = Sizing(model, x, NumberType(kind))
    plan = plan_removal(model, groups, {g.index: range(g.size // 2) for g in groups})
    predicted = sizing.predict(plan)
    assert predicted == sizing.measure(plan)
    small = slice_channels(model, x, plan, groups=groups)
    result = audit(small, inputs=x[:1])
    if kind != "int8":
        assert predicted.params == result.params
        assert predicted.macs == result.macs_by_convention["strict"]
        assert predicted.macs_official == result.macs_by_convention["nessi"]
        assert predicted.param_bytes == planned_bytes(result, kind)
        for convention in ("strict", "keras-2020", "keras-2021"):
            width = 4 if kind == "float32" else 2
            expected = result.nonzero_by_convention[convention] * width
            assert predicted.nonzero_bytes[convention] == expected


def test_a_challenge_year_is_fitted_with_the_least_removal(make_small: Any) -> None:
    network = make_small("seresnet18")
    model, x = network.build(seed=2), network.example()
    budget = Budget(rules=rules_for(2023), number_type=NumberType("float32"))
    config = Slimming(0.0, importance="l1")
    result = slim(model, x, config, budget=budget, ignored=network.ignored)
    # 54,532 parameters of 4 B are over 128,000 B; 32,000 fit
    assert result.params_after <= 32_000
    counted = measure_sizes(result.model, x)
    assert counted == result.sizes
    assert budget.over(counted) == []
    # one unit less would not fit: the removal order is nested, so one parameter less in the target
    more = slim(
        model,
        x,
        config,
        budget=Budget(params=result.params_after + 1),
        ignored=network.ignored,
    )
    assert more.params_after == result.params_after
