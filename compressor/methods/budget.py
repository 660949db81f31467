"""How far to prune for a limit: exact sizes along the removal order, and the least that fits.

Sizes depend on widths alone, so nothing is trained to know them. Positions, kernels and strides do
not change when channels leave: the MACs of a layer fall with its weights, those of the official
counter with its parameters. One count of the whole network and the shapes of the cut one therefore
give its figures exactly, and the last one is counted in full again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from compressor.audit import audit
from compressor.audit.rules import Limit, Rules, load_rules, rules_for, years
from compressor.errors import ConfigError, PruneError, UnknownNameError
from compressor.methods.kinds import is_batchnorm, is_supported
from compressor.methods.surgery import PrunePlan, cut

if TYPE_CHECKING:
    from compressor.audit import AuditResult

__all__ = [
    "FLOAT32",
    "Budget",
    "Excess",
    "NumberType",
    "Sizes",
    "Sizing",
    "measure_sizes",
    "readings",
]

_FLOAT_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_METRICS = ("params", "nonzero_params", "param_bytes", "nonzero_bytes", "macs")


@dataclass(frozen=True)
class NumberType:
    """How the network's numbers will be stored, as far as its bytes depend on it.

    Attributes:
        name: "float32", "float16", "bfloat16", or "int8": integer weights and int32 biases, with
            BatchNorm folded first.
        weight_bits: width of integer weights.
        keep_float: layers (or blocks of layers) whose numbers stay float32 among integer ones.
        mixed: layer -> width of its integer weights where it is another one.
        rescale: depthwise 1x1 convolutions are multiplied into their readers, among integers.
    """

    name: str = "float32"
    weight_bits: int = 8
    keep_float: tuple[str, ...] = ()
    mixed: Mapping[str, int] = field(default_factory=dict)
    rescale: bool = True

    def __post_init__(self) -> None:
        """Raises ConfigError for an unknown name."""
        if self.name not in (*_FLOAT_BYTES, "int8"):
            raise ConfigError(
                f"number type is {self.name!r}; allowed: {', '.join(_FLOAT_BYTES)}, int8"
            )

    @property
    def integer(self) -> bool:
        """Whether weights are stored as integers (and BatchNorm is folded)."""
        return self.name == "int8"

    def bits_of(self, layer: str, tensor: Tensor) -> int:
        """Bits that one number of a parameter takes.

        Args:
            layer: qualified name of the layer that owns the parameter.
            tensor: weights have two or more axes, biases and scales one.
        """
        if not self.integer:
            return 8 * _FLOAT_BYTES[self.name]
        kept = any(layer == name or layer.startswith(f"{name}.") for name in self.keep_float)
        if kept or tensor.ndim < 2:  # a bias is an int32, a kept number a float32
            return 32
        return 4 if self.mixed.get(layer, self.weight_bits) <= 4 else 8  # as files hold them


FLOAT32 = NumberType()


@dataclass(frozen=True)
class Sizes:
    """Figures of one network as it would be stored.

    Attributes:
        params: parameters; nonzero_params: those that are not zero.
        param_bytes: bytes of all parameters in the number type asked for.
        macs: multiply-accumulates of one inference, strict; macs_official: as torchinfo counts.
        nonzero_bytes: counting convention -> bytes of the parameters that are not zero.
    """

    params: int
    nonzero_params: int
    param_bytes: int
    macs: int
    macs_official: int
    nonzero_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Excess:
    """One limit: `value` of `limit` allowed, in `unit`; `name` says which."""

    name: str
    value: int
    limit: int
    unit: str


@dataclass(frozen=True)
class Budget:
    """Limits that a network must keep, all at once; at least one.

    Attributes:
        params: most parameters, zeros included.
        macs: most multiply-accumulates of one inference (strict convention).
        bytes: most bytes of parameters in `number_type`.
        rules: a challenge's rules; all their size and MAC limits must be kept, in every reading.
            What they say of the number type is another step's affair.
        number_type: how the network will be stored.
    """

    params: int | None = None
    macs: int | None = None
    bytes: int | None = None
    rules: Rules | None = None
    number_type: NumberType = FLOAT32

    def __post_init__(self) -> None:
        """Raises ConfigError for no limit, one under 1, or one that widths do not decide."""
        given = {"params": self.params, "macs": self.macs, "bytes": self.bytes}
        if self.rules is None and all(value is None for value in given.values()):
            raise ConfigError("a budget needs params, macs, bytes or rules; found none")
        for name, value in given.items():
            if value is not None and value < 1:
                raise ConfigError(f"target_{name} is {value}, but must be at least 1")
        if self.rules is None:
            return
        for limit in self.rules.limits:
            if limit.max is not None and limit.metric not in _METRICS:
                raise ConfigError(
                    f"pruning cannot fit limit {limit.name!r} of {self.rules.label}: {limit.metric}"
                    f" is not among {', '.join(_METRICS)}"
                )

    def over(self, sizes: Sizes) -> list[Excess]:
        """The limits that `sizes` breaks."""
        pairs = [
            Excess("parameters", sizes.params, self.params or 0, "parameters"),
            Excess("MACs", sizes.macs, self.macs or 0, "MACs"),
            Excess("size", sizes.param_bytes, self.bytes or 0, f"B in {self.number_type.name}"),
        ]
        found = [pair for pair in pairs if pair.limit and pair.value > pair.limit]
        for limit in self.rules.limits if self.rules else ():
            if limit.max is not None and max(readings(sizes, limit)) > limit.strictest:
                value = max(readings(sizes, limit))
                found.append(Excess(limit.name, value, limit.strictest, limit.unit))
        return found


def rules_named(name: str) -> Rules:
    """The rules that "dcase2023", "2023" or the path of a rule file (.toml) names.

    Raises:
        UnknownNameError: no such rules.
        ConfigError: a rule file that cannot be read.
    """
    if name.endswith(".toml"):
        return load_rules(Path(name))
    year = name.lower().removeprefix("dcase")
    if not year.isdigit() or int(year) not in years():
        raise UnknownNameError("rules to fit", name, [f"dcase{known}" for known in years()])
    return rules_for(int(year))


def readings(sizes: Sizes, limit: Limit) -> list[int]:
    """The figure a limit is about, under every reading that its sources leave open."""
    if limit.metric == "macs":
        return [sizes.macs, sizes.macs_official]
    if limit.metric == "params":
        return [sizes.params]
    if limit.metric == "nonzero_params":
        return [sizes.nonzero_params]
    if limit.metric == "param_bytes":
        return [sizes.param_bytes]
    conventions = [limit.convention, *([limit.also_convention] if limit.also_convention else [])]
    return [sizes.nonzero_bytes[name] for name in conventions]


def _stored(model: nn.Module, example: Tensor, number_type: NumberType) -> nn.Module:
    """The network whose parameters are counted: with BatchNorm folded where integers are stored."""
    if not number_type.integer:
        return model
    import compressor.methods.quant  # noqa: F401 - it and fold import each other, in this order
    from compressor.methods.fold import fold_batchnorm, fold_scalings

    stored = fold_batchnorm(model, example)
    if number_type.rescale:
        fold_scalings(stored, example)
    return stored


def _count(model: nn.Module, number_type: NumberType) -> Sizes:
    """Parameters and bytes by counting, each tensor in whole bytes; the MACs are left at 0."""
    params = nonzero = total = 0
    by_convention = {"strict": 0, "keras-2020": 0, "keras-2021": 0}
    for path, module in model.named_modules():
        for tensor in module.parameters(recurse=False):
            bits = number_type.bits_of(path, tensor)
            alive = int(tensor.count_nonzero())
            params += tensor.numel()
            nonzero += alive
            total += _bytes(tensor.numel(), bits)
            by_convention["strict"] += _bytes(alive, bits)
            by_convention["keras-2021"] += _bytes(alive, bits)
            if not is_batchnorm(module):
                by_convention["keras-2020"] += _bytes(alive, bits)
        if is_batchnorm(module):
            for statistic in (module.running_mean, module.running_var):
                if statistic is not None:
                    bits = number_type.bits_of(path, statistic)
                    by_convention["keras-2021"] += _bytes(int(statistic.count_nonzero()), bits)
    return Sizes(
        params=params,
        nonzero_params=nonzero,
        param_bytes=total,
        macs=0,
        macs_official=0,
        nonzero_bytes=by_convention,
    )


def _bytes(count: int, bits: int) -> int:
    """Bytes of so many numbers, the last one filled up."""
    return (count * bits + 7) // 8


def _audited(model: nn.Module, example: Tensor) -> AuditResult:
    result = audit(model, inputs=example[:1])
    if result.macs_by_convention["strict"] is None or result.statuses["macs"] != "exact":
        raise PruneError(
            f"the MACs of this network cannot be counted exactly ({', '.join(result.uncounted)}); "
            "prune by ratio or target_params"
        )
    return result


def measure_sizes(model: nn.Module, example: Tensor, number_type: NumberType = FLOAT32) -> Sizes:
    """Figures of a network as it would be stored, all counted.

    Args:
        model: network; left as it is.
        example: an input (N, ...) that it takes; counted for one.
        number_type: how it would be stored.

    Raises:
        PruneError: its MACs cannot be counted exactly.
    """
    stored = _stored(model, example, number_type)
    result = _audited(stored, example)
    return replace(
        _count(stored, number_type),
        macs=result.macs_by_convention["strict"] or 0,
        macs_official=result.macs_by_convention["nessi"] or 0,
    )


class Sizing:
    """Exact sizes of pruned versions of one network."""

    def __init__(self, model: nn.Module, example: Tensor, number_type: NumberType = FLOAT32):
        self._model = model
        self._example = example
        self._number_type = number_type
        self._stored = _stored(model, example, number_type)
        self._layers = {row.name: row for row in _audited(self._stored, example).layers}
        self._full = self._weights(self._stored)

    @staticmethod
    def _weights(model: nn.Module) -> dict[str, tuple[int, int]]:
        """Layer -> (numbers in weights, numbers in all parameters)."""
        return {
            path: (
                sum(p.numel() for p in module.parameters(recurse=False) if p.ndim > 1),
                sum(p.numel() for p in module.parameters(recurse=False)),
            )
            for path, module in model.named_modules()
        }

    def predict(self, plan: PrunePlan) -> Sizes:
        """Figures after `plan`, from shapes alone."""
        here = {name for name, m in self._stored.named_modules() if is_supported(m)}
        restricted = replace(  # folded BatchNorms are gone
            plan,
            outputs=tuple(c for c in plan.outputs if c.layer in here),
            inputs=tuple(c for c in plan.inputs if c.layer in here),
        )
        small = cut(self._stored, restricted)
        macs = official = 0
        for path, (weights, params) in self._weights(small).items():
            row = self._layers.get(path)
            if row is None:
                continue
            all_weights, all_params = self._full[path]
            macs += row.macs * weights // all_weights if all_weights else row.macs
            official += row.macs_official * params // all_params if params else row.macs_official
        return replace(_count(small, self._number_type), macs=macs, macs_official=official)

    def measure(self, plan: PrunePlan) -> Sizes:
        """Figures after `plan`, with the cut network counted in full."""
        return measure_sizes(cut(self._model, plan), self._example, self._number_type)

    def least(
        self, budget: Budget, plan_of: Callable[[int], PrunePlan], most: int
    ) -> tuple[int, Sizes]:
        """Fewest removals whose network keeps `budget`, by bisection, and its sizes.

        Args:
            budget: the limits.
            plan_of: the plan that takes the first n units of the removal order.
            most: how many units the order has.

        Raises:
            PruneError: the smallest network is still over; the message says by how much.
        """
        for figures in (self.predict, self.measure):  # the second only where shapes do not tell
            count = self._bisect(budget, plan_of, most, figures)
            plan = plan_of(count)
            sizes = self.measure(plan)
            if figures(plan) == sizes:
                break
        return count, sizes

    def _bisect(
        self,
        budget: Budget,
        plan_of: Callable[[int], PrunePlan],
        most: int,
        figures: Callable[[PrunePlan], Sizes],
    ) -> int:
        over = budget.over(figures(plan_of(most)))
        if over:
            worst = max(over, key=lambda e: e.value / e.limit)
            what = "" if worst.name == worst.unit else f" ({worst.name})"
            raise PruneError(
                f"{worst.limit:,} {worst.unit}{what} cannot be reached: the smallest "
                f"network that keeps the floor of channels in every group has {worst.value:,}; "
                "allow a lower floor (min_channels, min_share), a larger target or a smaller "
                "number type"
            )
        low, high = 0, most
        while low < high:
            middle = (low + high) // 2
            if budget.over(figures(plan_of(middle))):
                low = middle + 1
            else:
                high = middle
        return low
