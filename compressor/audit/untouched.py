"""Leave a module and the process exactly as they were around a forward pass. Imports torch."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

__all__ = ["Snapshot", "untouched"]


class Snapshot:
    """Copies of what a forward pass may change, taken before it does."""

    def __init__(self, module: nn.Module) -> None:
        """Copies flags, attributes and containers of every module; tensors are copied lazily."""
        # apart from the attributes: a scripted module keeps its flag where `vars` does not see it
        self._flags = [(m, m.training) for m in module.modules()]
        self._dicts = [(vars(m), dict(vars(m))) for m in module.modules()]
        self._containers: list[tuple[Any, Any]] = [
            (item, item.copy())
            for _, before in self._dicts
            for item in before.values()
            if isinstance(item, (dict, list, set))
        ]
        self._owned: dict[int, torch.UntypedStorage] = {}
        self._saved: dict[int, torch.UntypedStorage] = {}
        tensors = [
            item
            for m in module.modules()
            for item in (*m._parameters.values(), *m._buffers.values(), *vars(m).values())
            if isinstance(item, torch.Tensor)
        ]
        for tensor in tensors:
            if (storage := _storage(tensor)) is not None:
                self._owned.setdefault(int(storage._cdata), storage)

    def before_write(self, tensors: Iterable[torch.Tensor]) -> None:
        """Saves the storages of the model among these tensors: an operator may write them."""
        for tensor in tensors:
            storage = _storage(tensor)
            key = int(storage._cdata) if storage is not None else 0
            if key in self._owned and key not in self._saved:
                owned: Any = self._owned[key]
                self._saved[key] = owned.clone()

    def restore(self) -> None:
        """Puts everything back."""
        for container, before in self._containers:
            if _same(container, before):
                continue
            container.clear()
            if isinstance(container, list):
                container.extend(before)
            else:
                container.update(before)
        for attributes, before in self._dicts:
            for name in attributes.keys() - before.keys():
                del attributes[name]
            attributes.update(before)
        for module, training in self._flags:
            if module.training != training:
                module.training = training
        for key, saved in self._saved.items():
            self._owned[key].copy_(saved)


def _same(container: Any, before: Any) -> bool:
    """Compares by identity: tensors inside have no single truth value."""
    if len(container) != len(before):
        return False
    if isinstance(container, dict):
        return all(
            a == b and container[a] is before[b] for a, b in zip(container, before, strict=True)
        )
    if isinstance(container, set):
        return bool(container == before)
    return all(a is b for a, b in zip(container, before, strict=True))


def _storage(tensor: torch.Tensor) -> torch.UntypedStorage | None:
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):  # sparse and mkldnn tensors
        return None


@contextmanager
def untouched(module: nn.Module) -> Iterator[Snapshot]:
    """Runs the body with `module` in eval mode and restores module and generators afterwards."""
    snapshot = Snapshot(module)
    python_state = random.getstate()
    torch_state = torch.get_rng_state()
    cuda: Any = torch.cuda
    cuda_states = cuda.get_rng_state_all() if cuda.is_initialized() else []
    numpy_random = sys.modules.get("numpy.random")
    numpy_state = numpy_random.get_state() if numpy_random is not None else None
    try:
        for each in module.modules():
            each.training = False  # not eval(): a network may have side effects there
        yield snapshot
    finally:
        snapshot.restore()
        random.setstate(python_state)
        torch.set_rng_state(torch_state)
        if cuda_states:
            cuda.set_rng_state_all(cuda_states)
        if numpy_random is not None:
            numpy_random.set_state(numpy_state)
