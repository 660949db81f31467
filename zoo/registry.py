"""The list of networks: a frozen record of facts beside each builder, looked up by name.

A paper's file registers its networks with `@register_model(...)`; the name of the function is the
name of the network. Tests and commands run over `list_models()`, so that a new network is built,
counted and exported by the test suite from the moment it is registered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import nn

from compressor.errors import UnknownNameError, UsageError
from zoo.layers import check_size

__all__ = ["ModelEntry", "Reported", "build", "entry", "list_models", "register_model"]

Layout = Literal["CFT", "CTF"]
Status = Literal["certain", "likely", "ambiguous"]
Builder = TypeVar("Builder", bound=Callable[..., nn.Module])


@dataclass(frozen=True)
class Reported:
    """One published figure.

    Attributes:
        quantity: what was reported, such as "parameters" or "accuracy, prune ratio 0.65".
        value: the figure as printed; a string where the paper rounds ("107k").
        unit: "%", "nats", "KB", "MMACs", ... or "" for a plain count.
        source: table, figure or section of the paper.
    """

    quantity: str
    value: float | str
    unit: str
    source: str


@dataclass(frozen=True)
class ModelEntry:
    """Everything known about a network that is not code.

    Attributes:
        name: registry name, equal to the builder's function name.
        title: one line for people.
        family: networks that share a builder share a family.
        year: year of the challenge.
        task: challenge task, such as "DCASE 2021 Task 1A".
        paper: citation.
        input_shape: default input without the batch axis, in `layout` order.
        layout: "CFT" is (channel, mel band, frame), "CTF" is (channel, frame, mel band).
        num_classes: classes of the published network.
        segment_s: seconds of audio that one inference sees.
        front_end: preset name of the log-mel front-end.
        status: how sure the reconstruction is (certain: counts match exactly and the text agrees).
        contradictions: what the paper gets wrong or leaves open, and what was chosen.
        reported: published figures.
        builder: function that builds the network.
        ignored_layers: qualified names (default build) whose output channels pruning never touches.
    """

    name: str
    title: str
    family: str
    year: int
    task: str
    paper: str
    input_shape: tuple[int, int, int]
    layout: Layout
    num_classes: int
    segment_s: float
    front_end: str
    status: Status
    contradictions: tuple[str, ...]
    reported: tuple[Reported, ...]
    builder: Callable[..., nn.Module]
    ignored_layers: tuple[str, ...]

    def shape(
        self,
        *,
        frames: int | None = None,
        mels: int | None = None,
        in_channels: int | None = None,
    ) -> tuple[int, int, int]:
        """Input without the batch axis for other sizes than the published, in `layout` order."""
        channels, second, third = self.input_shape
        channels = channels if in_channels is None else in_channels
        if self.layout == "CTF":
            return channels, second if frames is None else frames, third if mels is None else mels
        return channels, second if mels is None else mels, third if frames is None else frames


_REGISTRY: dict[str, ModelEntry] = {}

OWN: dict[str, ModelEntry] = {}
"""Networks of a user's own that were allowed in this process (`zoo.own`)."""


def register_model(
    *,
    title: str,
    family: str,
    year: int,
    task: str,
    paper: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    segment_s: float,
    front_end: str,
    status: Status,
    layout: Layout = "CFT",
    contradictions: tuple[str, ...] = (),
    reported: tuple[Reported, ...] = (),
    ignored_layers: tuple[str, ...] = (),
) -> Callable[[Builder], Builder]:
    """Register the decorated builder under its own name; arguments as in `ModelEntry`.

    Raises:
        ValueError: the name is taken (a mistake in this package, not of a user).
    """

    def register(builder: Builder) -> Builder:
        name = builder.__name__
        if name in _REGISTRY:
            raise ValueError(f"network {name!r} is registered twice")
        _REGISTRY[name] = ModelEntry(
            name=name,
            title=title,
            family=family,
            year=year,
            task=task,
            paper=paper,
            input_shape=input_shape,
            layout=layout,
            num_classes=num_classes,
            segment_s=segment_s,
            front_end=front_end,
            status=status,
            contradictions=contradictions,
            reported=reported,
            builder=builder,
            ignored_layers=ignored_layers,
        )
        return builder

    return register


def list_models() -> list[str]:
    """Names of all networks, by year of the paper and then in order of registration."""
    return [e.name for e in sorted(_REGISTRY.values(), key=lambda e: e.year)]


def entry(name: str) -> ModelEntry:
    """The record of a network.

    Raises:
        UnknownNameError: no network of that name; the message offers close matches.
    """
    try:
        return OWN[name] if name in OWN else _REGISTRY[name]
    except (KeyError, TypeError):
        if isinstance(name, str) and ":" in name:
            raise UsageError(
                f"network {name!r} is code, which runs only for those who name it: give "
                f"--model {name} (in Python: zoo.allow({name!r})) if it is yours"
            ) from None
        raise UnknownNameError("network", str(name), list_models()) from None


def build(
    name: str,
    num_classes: int | None = None,
    *,
    frames: int | None = None,
    mels: int | None = None,
    in_channels: int | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a network with fresh weights drawn from torch's global generator.

    Args:
        name: one of `list_models()`.
        num_classes: number of classes; default as published.
        frames: segment length in frames; default as published.
        mels: number of mel bands; default as published.
        in_channels: input planes (audio channels, deltas); default as published.
        **kwargs: further arguments of that network's builder. `group_classes`, the outputs of a
            second task behind those of the classes, is one of every network: where the builder does
            not know it, its classifier is built that much wider.

    Returns:
        The network in training mode. It maps (N, *input_shape) to logits (N, outputs).

    Raises:
        UnknownNameError: no such network, or no such argument of it.
        ShapeError: a size with which the network cannot work.
    """
    found = entry(name)
    sizes = {
        "num_classes": num_classes,
        "frames": frames,
        "mels": mels,
        "in_channels": in_channels,
    }
    arguments = {key: value for key, value in sizes.items() if value is not None} | kwargs
    accepted = inspect.signature(found.builder).parameters
    if "group_classes" in arguments and "group_classes" not in accepted:
        further = check_size("group_classes", arguments.pop("group_classes"), minimum=0)
        arguments["num_classes"] = arguments.get("num_classes", found.num_classes) + further
    for key in arguments:
        if key not in accepted:
            raise UnknownNameError(f"argument of network {name}", key, accepted)
    try:
        return found.builder(**arguments)
    except TypeError as error:
        raise UsageError(f"network {name!r} cannot be built with {arguments}: {error}") from error
