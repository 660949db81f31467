"""The layers of a Keras model, from its JSON configuration: Sequential, functional, nested.

Read are the forms of Keras 1 to 3. Nothing is imported or built: a layer is a class name, its
settings, and where its inputs come from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from compressor.audit.readers.keras_layers import canonical
from compressor.errors import ModelFileError

__all__ = ["Layer", "Model", "Ref", "parse_model"]

Ref = tuple[str, int, int]  # layer, which of its calls, which of its outputs

_MODELS = frozenset({"Sequential", "Functional", "Model"})
_MAX_LAYERS = 20_000
_MAX_DEPTH = 12
_MAX_CALLS = 100_000


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        names: its name behind those of the models around it; path: the same as one text.
        group: where Keras 3 stores its weights.
        kind: class name; config: settings.
        calls: for each call the references to its inputs (functional models).
        model: the model that it is, if it is one.
    """

    names: tuple[str, ...]
    group: tuple[str, ...]
    kind: str
    config: Mapping[str, Any]
    calls: tuple[tuple[Ref, ...], ...]
    model: Model | None

    @property
    def path(self) -> str:
        """Name behind the names of the models around it."""
        return "/".join(self.names)


@dataclass(frozen=True)
class Model:
    """A model: its layers in their order; inputs and outputs of a functional one."""

    kind: str
    config: Mapping[str, Any]
    layers: tuple[Layer, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]

    @property
    def sequential(self) -> bool:
        """Whether each layer feeds the next."""
        return self.kind == "Sequential"

    def leaves(self) -> list[Layer]:
        """Returns all layers that are no models, those inside nested models included."""
        found: list[Layer] = []
        for layer in self.layers:
            found += layer.model.leaves() if layer.model is not None else [layer]
        return found


class _Parser:
    def __init__(self, name: str) -> None:
        self.name = name
        self.room = _MAX_LAYERS
        self.calls = _MAX_CALLS

    def fail(self, reason: str) -> ModelFileError:
        return ModelFileError(f"{self.name}: the model configuration is damaged: {reason}")

    def model(self, tree: Any, names: tuple[str, ...], group: tuple[str, ...]) -> Model:
        if len(names) > _MAX_DEPTH:
            raise self.fail("models nested too deeply")
        if not isinstance(tree, Mapping):
            raise self.fail("no model")
        kind, config = tree.get("class_name"), tree.get("config")
        if isinstance(config, list):  # a Sequential of Keras 1 is the bare list of its layers
            config = {"layers": config}
        if not isinstance(kind, str) or not isinstance(config, Mapping):
            raise self.fail("no class name or settings")
        items = config.get("layers")
        if not isinstance(items, list) or not items:
            raise self.fail(f"{kind[:80]!r} lists no layers")
        kind = "Sequential" if kind == "Sequential" else "Functional"
        counts: Counter[str] = Counter()
        layers = tuple(self.layer(item, names, group, counts, i) for i, item in enumerate(items))
        if len({layer.names for layer in layers}) != len(layers):
            raise self.fail("two layers of one name")
        return Model(
            kind,
            config,
            layers,
            self.refs(config, "input_layers"),
            self.refs(config, "output_layers"),
        )

    def layer(
        self,
        item: Any,
        names: tuple[str, ...],
        group: tuple[str, ...],
        counts: Counter[str],
        index: int,
    ) -> Layer:
        self.room -= 1
        if self.room < 0:
            raise self.fail(f"more than {_MAX_LAYERS:,} layers")
        if not isinstance(item, Mapping):
            raise self.fail("a layer that is no object")
        kind, config = item.get("class_name"), item.get("config")
        if not isinstance(kind, str) or not kind.isprintable() or len(kind) > 120:
            raise self.fail("a layer without a class name")
        if isinstance(config, list) and kind in _MODELS:
            config = {"layers": config}
        if not isinstance(config, Mapping):
            raise self.fail(f"the layer {kind!r} has no settings")
        own = item.get("name", config.get("name", f"{_snake(kind)}_{index}"))
        if not isinstance(own, str) or not own or len(own) > 400 or not own.isprintable():
            raise self.fail(f"the name of a layer of class {kind!r}")
        snake = _snake(kind)
        number = counts[snake]
        counts[snake] += 1
        place = (*group, f"{snake}_{number}" if number else snake)
        full = (*names, own)
        model = None
        if kind in _MODELS and "layers" in config:
            model = self.model({"class_name": kind, "config": config}, full, place)
        nodes = item.get("inbound_nodes", [])
        calls = tuple(self.call(node) for node in nodes) if isinstance(nodes, list) else ()
        return Layer(full, place, canonical(kind), config, calls, model)

    def call(self, node: Any) -> tuple[Ref, ...]:
        """Inputs of one call: [[layer, call, output, ...], ...], or tensors inside args, kwargs."""
        if isinstance(node, list) and node and isinstance(node[0], str):
            node = [node]
        found = tuple(self.walk(node, 0))
        self.calls -= 1 + len(found)
        if self.calls < 0:
            raise self.fail(f"more than {_MAX_CALLS:,} connections")
        return found

    def walk(self, node: Any, depth: int) -> Iterator[Ref]:
        if depth > _MAX_DEPTH:
            raise self.fail("connections nested too deeply")
        if isinstance(node, Mapping):
            if node.get("class_name") == "__keras_tensor__":
                config = node.get("config")
                history = config.get("keras_history") if isinstance(config, Mapping) else None
                yield self.ref(history)
                return
            for key, value in node.items():
                if key != "mask" and isinstance(value, (list, Mapping)):
                    yield from self.walk(value, depth + 1)
        elif isinstance(node, list):
            if len(node) >= 3 and isinstance(node[0], str) and type(node[1]) is int:
                yield self.ref(node[:3])
                return
            for value in node:
                if isinstance(value, (list, Mapping)):
                    yield from self.walk(value, depth + 1)

    def ref(self, item: Any) -> Ref:
        if (
            not isinstance(item, list)
            or len(item) != 3
            or not isinstance(item[0], str)
            or not all(type(number) is int and 0 <= number < 1 << 20 for number in item[1:])
        ):
            raise self.fail("a connection to nowhere")
        return item[0], item[1], item[2]

    def refs(self, config: Mapping[str, Any], key: str) -> tuple[Ref, ...]:
        value = config.get(key)
        return tuple(self.walk(value, 0)) if isinstance(value, (list, Mapping)) else ()


def _snake(kind: str) -> str:
    """Class name to the name Keras makes of it: "BatchNormalization" -> "batch_normalization"."""
    kind = re.sub(r"\W+", "", kind)
    kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()


def parse_model(config: Mapping[str, Any], name: str) -> Model:
    """Reads a model configuration.

    Args:
        config: as JSON holds it.
        name: what messages call the file.

    Returns:
        The model; a configuration of a class of the author's own has no layers listed and is
        refused with a hint.

    Raises:
        ModelFileError: not a configuration, or a damaged one.
    """
    parser = _Parser(name)
    inner = config.get("config")
    if isinstance(inner, Mapping) and "layers" not in inner and config.get("class_name"):
        raise ModelFileError(
            f"{name}: the model is of the class {str(config['class_name'])[:80]!r}, whose layers "
            "are written in code; save it as a functional model"
        )
    return parser.model(config, (), ())
