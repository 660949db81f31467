"""int8 by training: the float network with rounding in place, trained on, then read out.

`prepare_qat` gives a network for any training loop. It rounds weights and activations exactly where
the deployed network will; BatchNorms behind a single layer stay and are trained on until their
statistics freeze, those behind a sum are folded before training, because the terms of a sum are
rounded one by one. `finish_qat` folds the rest: a BatchNorm scales each output channel, so the
integers stay what they are and only their scales (and, for a negative factor, signs) change.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.modules.batchnorm import _BatchNorm

from compressor.errors import ConfigError, UnknownNameError, UsageError
from compressor.methods.dataflow import NetworkGraph, trace
from compressor.methods.equalize import level_channels
from compressor.methods.fold import fold, fold_scalings, foldable
from compressor.methods.grouping import bare_copy
from compressor.methods.quant.build import assemble
from compressor.methods.quant.calibrate import check_clips
from compressor.methods.quant.config import QatInt8
from compressor.methods.quant.integers import SMALLEST_SCALE, Activation, IntegerWeight
from compressor.methods.quant.light import LightEngine
from compressor.methods.quant.network import QuantizedNetwork
from compressor.methods.quant.plan import Plan, make_plan
from compressor.methods.quant.sqnr import measure_sqnr
from compressor.methods.quant.static import SQNR_CLIPS

__all__ = ["QatNetwork", "finish_qat", "prepare_qat"]


class Engine(Protocol):
    """What an engine makes and reads out (light.py, brevitas_qat.py)."""

    def layer(self, layer: nn.Module, bits: int, per_channel: bool) -> nn.Module:
        """A layer with rounded weights that shares the parameters of `layer`."""

    def activation(self) -> nn.Module:
        """A rounding for one site."""

    def weight(self, layer: nn.Module) -> IntegerWeight:
        """The integers of a layer."""

    def grid(self, activation: nn.Module, name: str) -> Activation:
        """The grid of a rounding."""

    def freeze(self, activation: nn.Module) -> None:
        """Let the range of a rounding stand still."""


class QatNetwork(nn.Module):
    """A network in quantisation-aware training: same inputs and outputs as the float one.

    Attributes:
        net: the traced network with rounded layers, under the float network's own names.
        roundings: the activation roundings, in the order of `sites`.
        sites: readable names of the rounded activations.
        layers: names of the layers with integer weights.
        config: the settings.
        folded: layers of the float network that were folded before training.
        frozen: True once BatchNorm statistics and ranges stand still.
    """

    def __init__(
        self,
        net: GraphModule,
        roundings: nn.ModuleList,
        *,
        sites: tuple[str, ...],
        layers: tuple[str, ...],
        config: QatInt8,
        folded: tuple[str, ...],
        template: nn.Module,
        engine: Engine,
        steps: int | None,
    ) -> None:
        super().__init__()
        self.net = net
        self.roundings = roundings
        self.sites = sites
        self.layers = layers
        self.config = config
        self.folded = folded
        self.frozen = False
        self._hidden = (template, engine)  # a tuple: no child module, nothing of it is trained
        self._steps_left = None if steps is None else max(0, round(steps * config.freeze_after))

    @property
    def template(self) -> nn.Module:
        """The float network that training started from, partly folded."""
        return self._hidden[0]

    @property
    def engine(self) -> Engine:
        """The engine that made the roundings."""
        return self._hidden[1]

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) -> logits (N, K)."""
        if self.training and not self.frozen and self._steps_left is not None:
            if self._steps_left == 0:
                self.freeze()
            else:
                self._steps_left -= 1
        out: Tensor = self.net(x)
        return out

    def freeze(self) -> None:
        """BatchNorm statistics and activation ranges stand still from now on."""
        self.frozen = True
        for rounding in self.roundings:
            self.engine.freeze(rounding)
        self.train(self.training)

    def train(self, mode: bool = True) -> QatNetwork:
        """Training mode; BatchNorms stay in evaluation once frozen."""
        super().train(mode)
        if self.frozen:
            for layer in self.modules():
                if isinstance(layer, _BatchNorm):
                    layer.eval()
        return self


def _engine(config: QatInt8, steps: int | None) -> Engine:
    if config.engine == "brevitas":
        from compressor.methods.quant.brevitas_qat import BrevitasEngine

        return BrevitasEngine(steps)
    return LightEngine(config.range_momentum)


def prepare_qat(
    model: nn.Module,
    example: Tensor,
    config: QatInt8 | None = None,
    *,
    batches: Iterable[Tensor] = (),
    steps: int | None = None,
) -> QatNetwork:
    """A network to train with the rounding in place, started from the float `model`.

    Args:
        model: trained float network; left as it is.
        example: (N, ...) an input that it takes.
        config: settings; the defaults are 8 bits per channel and the light engine.
        batches: inputs of the training part, no labels: with them the channels in front of
            depthwise convolutions are levelled and activation ranges start from real values, which
            a moving average of the weights needs from its first step.
        steps: training steps to come; after `config.freeze_after` of them BatchNorm statistics and
            ranges freeze by themselves. None: call `freeze()` when it is time.

    Raises:
        MeasureError: a layer or operator that cannot be quantised; the message names it.
        UnknownNameError: a layer in `keep_float`, `float_compute` or `mixed` that does not exist.
        ShapeError: batches of another shape than the example.
    """
    config = QatInt8() if config is None else config
    if not isinstance(config, QatInt8):
        raise ConfigError(f"QAT takes QatInt8 settings, found {type(config).__name__}")
    clips = list(batches)
    if clips:
        clips = check_clips(clips, example, config.calibration_clips)
    template, folded = _template(model, example, config, clips)
    plan_graph = trace(fold(template, example).model, example)
    plan = _plan(plan_graph, config)
    for layer in config.mixed:
        if layer not in plan.weights:
            raise UnknownNameError("quantised layer in mixed", layer, plan.weights)
    engine = _engine(config, steps)
    graph = trace(bare_copy(template), example)
    net = graph.module
    for layer in plan.weights:
        twin = engine.layer(net.get_submodule(layer), config.bits_of(layer), config.per_channel)
        net.set_submodule(layer, twin)
    roundings = nn.ModuleList(engine.activation() for _ in plan.sites)
    _insert(graph, {site.name: number for number, site in enumerate(plan.sites)}, roundings)
    sites = tuple(plan_graph.names[site] for site in plan.sites)
    network = QatNetwork(
        net,
        roundings,
        sites=sites,
        layers=tuple(plan.weights),
        config=config,
        folded=folded,
        template=template,
        engine=engine,
        steps=steps,
    )
    _observe(network, clips)
    return network.train(model.training)


@torch.no_grad()
def _observe(network: QatNetwork, clips: Sequence[Tensor]) -> None:
    """Let the roundings see the clips before training; BatchNorms stay as they are."""
    network.eval()
    network.roundings.train()
    for batch in clips:
        network(batch)


def _template(
    model: nn.Module, example: Tensor, config: QatInt8, clips: Sequence[Tensor]
) -> tuple[nn.Module, tuple[str, ...]]:
    """The float network as training starts, and the names of the layers that are folded already."""
    graph = trace(bare_copy(model).eval(), example)
    early = frozenset(
        str(node.target)
        for node in graph.nodes
        if graph.kind(node) == "batchnorm"
        and (targets := foldable(graph, node))
        and targets != (_maker(graph, node),)
    )
    folding = fold(model, example, only=early)
    gone = folding.folded
    if config.rescale:
        gone += fold_scalings(folding.model, example)
        if clips and config.per_channel:
            level_channels(folding.model, example, clips)
    return folding.model, gone


def _maker(graph: NetworkGraph, node: Any) -> str:
    """Name of the layer whose output the BatchNorm at `node` reads directly; "" if none does."""
    source = node.args[0]
    return str(source.target) if graph.kind(source) in ("conv", "linear") else ""


def _plan(graph: NetworkGraph, config: QatInt8) -> Plan:
    return make_plan(
        graph,
        keep_float=config.keep_float,
        float_compute=config.float_compute,
        operators=config.integer_operators,
    )


def _insert(graph: NetworkGraph, sites: Mapping[str, int], roundings: nn.ModuleList) -> None:
    """Put the roundings behind the nodes of these names."""
    net = graph.module
    net.add_submodule("roundings", roundings)
    for node in graph.nodes:
        if node.name not in sites:
            continue
        with net.graph.inserting_after(node):
            rounded = net.graph.call_module(f"roundings.{sites[node.name]}", (node,))
        node.replace_all_uses_with(rounded, delete_user_cb=partial(operator.is_not, rounded))
    net.recompile()


def finish_qat(
    model: nn.Module, example: Tensor, batches: Iterable[Tensor] = ()
) -> QuantizedNetwork:
    """The integers of a network that was trained with rounding.

    Args:
        model: what `prepare_qat` gave; left as it is.
        example: (N, ...) an input.
        batches: inputs to measure the signal-to-noise ratios on; none: they are not measured.

    Raises:
        UsageError: not a network from `prepare_qat`.
        MeasureError: it was not trained, or its weights are not finite; the message names the
            layer.
    """
    if not isinstance(model, QatNetwork):
        raise UsageError(
            f"finish_qat takes a network from prepare_qat, found a {type(model).__name__}"
        )
    config, engine = model.config, model.engine
    trained = bare_copy(model.template)
    own = trained.state_dict()
    # without what no operator reads (the places of an unpruned ECA), and without the engine's own
    stored = {**dict(model.net.named_parameters()), **dict(model.net.named_buffers())}
    trained.load_state_dict(own | {n: t.detach() for n, t in stored.items() if n in own})
    folding = fold(trained, example)
    raw = {layer: engine.weight(model.net.get_submodule(layer)) for layer in model.layers}
    weights = {layer: _scaled(raw[layer], folding.factors.get(layer)) for layer in model.layers}
    activations = {
        name: engine.grid(rounding, name)
        for name, rounding in zip(model.sites, model.roundings, strict=True)
    }
    reference = bare_copy(folding.model)
    graph = trace(folding.model, example)
    settings = config.to_dict() | {"method": "qat"}
    made = assemble(
        graph,
        _plan(graph, config),
        weights,
        activations,
        model=folding.model,
        example=example,
        folded=(*model.folded, *folding.folded),
        settings=settings,
    )
    clips = list(batches)
    if not clips:
        return made
    clips = check_clips(clips, example, SQNR_CLIPS)
    return replace(made, sqnr=measure_sqnr(made, reference, clips))


def _scaled(weight: IntegerWeight, factor: Tensor | None) -> IntegerWeight:
    """The integers after each output channel was multiplied by its factor."""
    if factor is None:
        return weight
    scale = (weight.scale.double() * factor.abs()).float()
    silent = scale < SMALLEST_SCALE
    shape = [-1, *[1] * (weight.values.dim() - 1)]
    sign = torch.where(silent, torch.zeros_like(factor), factor.sign()).reshape(shape)
    values = (weight.values * sign).to(torch.int8)
    return IntegerWeight(values, torch.where(silent, torch.ones_like(scale), scale), 0, weight.bits)
