"""The state of a training between two epochs in a file, from which an interrupted one goes on.

Everything that the next epoch depends on is in it (weights, optimiser, schedule, averages, all
random generators, what is known so far), so that on the CPU a training that was interrupted ends in
the bits of one that was not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import nn

from compressor.data.files import atomic_write
from compressor.errors import DataError, UsageError
from compressor.training.ema import tensors_of
from compressor.training.progress import restore
from compressor.training.settings import TrainSettings

if TYPE_CHECKING:
    from compressor.data.features import FeatureSet, Standardizer

__all__ = ["Checkpoint", "Stateful", "identity"]

_FORMAT = 1


class Stateful(Protocol):
    """A part of a training that has a state, such as an optimiser."""

    def state_dict(self) -> Any:
        """What `load_state_dict` continues from."""

    def load_state_dict(self, state: Any, /) -> Any:
        """Continue from a stored state."""


class Checkpoint:
    """One file, written whole after every epoch; belongs to one training."""

    def __init__(
        self,
        path: Path,
        belongs_to: Mapping[str, Any],
        *,
        model: nn.Module,
        parts: Mapping[str, Stateful | None],
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        """Nothing is read or written yet.

        Args:
            path: the file.
            belongs_to: what the training is, see `identity`.
            model: the network.
            parts: all else that has a state, by name; None for what this training does not have.
            rng: what batches are drawn from.
            device: where the network is trained.
        """
        self.path = path
        self._identity = dict(belongs_to)
        self._model = model
        self._parts = {name: part for name, part in parts.items() if part is not None}
        self._rng = rng
        self._device = device

    def save(self) -> None:
        """Write the state that everything has now, in place of the last one.

        Raises:
            DataError: the file cannot be written.
        """
        state = {
            "weights": tensors_of(self._model),
            "numpy": self._rng.bit_generator.state,
            "torch": torch.get_rng_state(),
            **{name: part.state_dict() for name, part in self._parts.items()},
        }
        if self._device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self._device)
        content = {"format": _FORMAT, "identity": self._identity, "state": state}
        try:
            with atomic_write(self.path) as stream:
                torch.save(content, stream)
        except OSError as error:
            raise DataError(
                f"checkpoint {self.path} cannot be written: {error.strerror or error}; free some "
                "room or name another place"
            ) from error

    def resume(self) -> None:
        """Give everything the state in the file; where there is no file, leave it as it is.

        Raises:
            UsageError: the file is no checkpoint, or of another training: says in what.
        """
        state = self._load()
        if state is None:
            return
        restore(self._model, state["weights"])
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self._rng.bit_generator.state = state["numpy"]
        torch.set_rng_state(state["torch"])
        if self._device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self._device)

    def _load(self) -> dict[str, Any] | None:
        """The state in the file, on the CPU."""
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # torch's reader meets damage with almost any exception
            raise UsageError(
                f"checkpoint {self.path} cannot be read ({type(error).__name__}); remove it to "
                "train from the start"
            ) from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            found = content.get("format") if isinstance(content, dict) else None
            raise UsageError(
                f"checkpoint {self.path} has format {found!r}, this version reads {_FORMAT}; "
                "remove it to train from the start"
            )
        differs = list(_differences(dict(content["identity"]), self._identity))
        if differs:
            raise UsageError(
                f"checkpoint {self.path} is of another training: {'; '.join(differs[:4])}"
                f"{' ...' if len(differs) > 4 else ''}; train as it says, name another file, or "
                "remove it to train from the start"
            )
        state: dict[str, Any] = content["state"]
        return state


def identity(
    model: nn.Module,
    train: FeatureSet,
    settings: TrainSettings,
    standardizer: Standardizer,
    **others: str | int | float | None,
) -> dict[str, Any]:
    """What makes a training what it is, as plain data: settings, network and clips.

    Clips are known by their labels, groups, devices and three of their features: reading them all
    would cost as much as an epoch on a large set.

    Args:
        model: the network, known by the names and sizes of its tensors.
        train: the training part.
        settings: of the training, all of them.
        standardizer: of the features.
        others: seed, layout, teacher ...
    """
    sizes = [f"{name} {list(value.shape)}" for name, value in model.state_dict().items()]
    clips = hashlib.blake2b(np.asarray(train.y).tobytes(), digest_size=8)
    clips.update("\n".join((*train.devices, *train.groups)).encode())
    clips.update(train.take(np.array([0, len(train) // 2, len(train) - 1])).tobytes())
    clips.update(repr(standardizer.to_dict()).encode())
    return {
        **{f"setting {name}": value for name, value in _all(settings).items()},
        "clips": len(train),
        "classes": ", ".join(train.classes),
        "features of the clips": clips.hexdigest(),
        "network": hashlib.blake2b("\n".join(sizes).encode(), digest_size=8).hexdigest(),
        **others,
    }


def _all(settings: TrainSettings) -> dict[str, Any]:
    """Every setting, also those at their default; tuples as lists."""
    names = settings.__dataclass_fields__
    values = {name: getattr(settings, name) for name in names}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """In what two identities differ, a name each."""
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            yield f"{name} is {found.get(name)!r} in the file, {wanted.get(name)!r} asked"
