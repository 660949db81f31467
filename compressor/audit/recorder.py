"""What a forward pass computes: operators, values and module calls. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch._ops import HigherOrderOperator
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

from compressor.audit.graph import GRAPH_VERSION
from compressor.audit.observe import (
    attributes,
    canonical,
    dtype_name,
    offset,
    output_shape,
    packed_parameters,
    packed_weights,
    storage_bytes,
    stride,
    tensors_in,
)
from compressor.audit.readers.lowbit import inner_tensors, is_scale

__all__ = ["Recorder"]

# operators that write an argument although their schema does not say so
_BATCHNORM = {
    "aten.native_batch_norm",
    "aten._native_batch_norm_legit",
    "aten.cudnn_batch_norm",
}


def _around(paths: set[str]) -> str:
    """Returns the path of the innermost module that holds all of some modules."""
    common = []
    for parts in zip(*(path.split(".") for path in paths), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


class Recorder(TorchDispatchMode):
    """Collects operators, values and module calls of one forward pass."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # True imports torch._dynamo at the first operator: 0.8 s

    supports_higher_order_operators = True

    def __init__(self, module: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.before_write: Callable[[Iterable[torch.Tensor]], None] = lambda _: None
        self.modules: list[dict[str, Any]] = []
        self.index: dict[int, int] = {}
        self.calls: list[list[Any]] = []
        self.stored: dict[str, dict[str, list[Any]]] = {
            "parameters": {},
            "packed": {},
            "buffers": {},
            "constants": {},
        }
        self.unsaved: list[str] = []
        self.tied: dict[str, str] = {}
        self.frozen: list[str] = []
        self.storage_bytes: list[int] = []
        self.values: list[list[Any]] = []
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.ops: list[dict[str, Any]] = []
        self._value_of: dict[tuple[Any, ...], int] = {}
        self._homes: dict[int, int | str] = {}
        self._offsets: dict[tuple[int, int], str] = {}
        self._weak: list[int] = []  # storage references that keep addresses from being used again
        self._kept: list[torch.Tensor] = []  # tensors without a storage, kept for the same reason
        self._stack: list[int] = []
        self._recurrent: list[tuple[int, int, list[int]]] = []
        self._paths: dict[str, int] = {}
        self._scripted = isinstance(module, torch.jit.ScriptModule)
        self._read_modules(module)

    # -- the module ---------------------------------------------------------------------------

    def _read_modules(self, root: nn.Module) -> None:
        seen: dict[int, str] = {}
        for path, module in root.named_modules():
            prefix = f"{path}." if path else ""
            names = []
            for local, parameter in module._parameters.items():
                if parameter is None:
                    continue
                name = prefix + local
                names.append(name)
                self.stored["parameters"][name] = [list(parameter.shape), dtype_name(parameter)]
                if not parameter.requires_grad and parameter.is_floating_point():
                    self.frozen.append(name)
                first = seen.setdefault(id(parameter), name)
                if first != name:
                    self.tied[name] = first
                else:
                    self._adopt(parameter, name)
            for local, buffer in module._buffers.items():
                if buffer is None:
                    continue
                name = prefix + local
                self.stored["buffers"][name] = [list(buffer.shape), dtype_name(buffer)]
                if local in module._non_persistent_buffers_set:
                    self.unsaved.append(name)
                if id(buffer) not in seen:
                    seen[id(buffer)] = name
                    self._adopt(buffer, name)
            self.index[id(module)] = self._paths[path] = len(self.modules)
            self.modules.append(
                {
                    "path": path,
                    "type": getattr(module, "original_name", type(module).__name__),
                    "leaf": not any(module.children()),  # truth value as torchinfo takes it
                    "parameters": names,
                }
            )
        for name, tensor in packed_parameters(root).items():
            self.stored["packed"][name] = [list(tensor.shape), dtype_name(tensor)]
        for path, module in root.named_modules():
            for local, item in vars(module).items():
                if isinstance(item, torch.Tensor) and self._key(item) not in self._homes:
                    self._constant(item, f"{path}.{local}" if path else local)

    def _constant(self, tensor: torch.Tensor, name: str) -> str:
        self.stored["constants"][name] = [list(tensor.shape), dtype_name(tensor)]
        self._adopt(tensor, name)
        return name

    def _adopt(self, tensor: torch.Tensor, name: str) -> None:
        for part, inner in inner_tensors(tensor).items():  # whole numbers and scales in a subclass
            if is_scale(part):
                self.stored["buffers"][f"{name}.{part}"] = [list(inner.shape), dtype_name(inner)]
            self._adopt(inner, f"{name}.{part}" if is_scale(part) else name)
        key = self._key(tensor)
        self._homes.setdefault(key, name)
        self._offsets.setdefault((key, offset(tensor)), name)

    def _key(self, tensor: torch.Tensor) -> int:
        """Returns an identity of the tensor's storage that stays unique during the pass."""
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse, mkldnn: no storage to speak of
            if not any(tensor is kept for kept in self._kept):
                self._kept.append(tensor)
            return -id(tensor)
        untyped: Any = storage
        key = int(untyped._cdata)
        if key not in self._homes:
            self._weak.append(int(untyped._weak_ref()))
        return key

    def release(self) -> None:
        """Gives the weak storage references back."""
        for reference in self._weak:
            torch.UntypedStorage._free_weak_ref(reference)  # type: ignore[no-untyped-call]
        self._weak.clear()
        self._kept.clear()

    # -- values -------------------------------------------------------------------------------

    def value(self, tensor: torch.Tensor, *, born: bool = False) -> int:
        """Returns the index of a value; a tensor of unknown origin becomes a constant."""
        key = self._key(tensor)
        home = self._homes.get(key)
        if home is None:
            if born:
                home = len(self.storage_bytes)
                self.storage_bytes.append(storage_bytes(tensor))
                self._homes[key] = home
            else:
                home = self._constant(tensor, f"constant {len(self.stored['constants'])}")
        elif isinstance(home, str):
            home = self._offsets.get((key, offset(tensor)), home)
        identity = (key, offset(tensor), tuple(tensor.shape), stride(tensor), tensor.dtype)
        index = self._value_of.get(identity)
        if index is None:
            index = len(self.values)
            self._value_of[identity] = index
            self.values.append([list(tensor.shape), dtype_name(tensor), home])
        return index

    def _packed(self, weight: torch.Tensor) -> int:
        """Registers a weight that was unpacked for reading under the name of its layer."""
        path = self.modules[self._stack[-1]]["path"] if self._stack else ""
        name = f"{path}.weight" if path else "weight"
        if name in self.stored["packed"]:
            self._homes[self._key(weight)] = name
        return self.value(weight)

    def add_inputs(self, tree: Any) -> None:
        """Registers the inputs of the network."""
        self.inputs = [self.value(t, born=True) for t in tensors_in(tree)]

    # -- module calls -------------------------------------------------------------------------

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Follows module calls with process-wide hooks, so that no module gains a hook."""
        handles = (
            register_module_forward_pre_hook(self._enter_module),
            register_module_forward_hook(self._leave_module, always_call=True),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter_module(self, module: nn.Module, args: Any) -> None:
        index = self.index.get(id(module))
        if index is None:
            return
        self._stack.append(index)
        if isinstance(module, nn.RNNBase):
            values = [self.value(t) for t in tensors_in(args)]
            self._recurrent.append((index, len(self.ops), values))

    def _leave_module(self, module: nn.Module, _args: Any, output: Any) -> None:
        index = self.index.get(id(module))
        if index is None or index not in self._stack:
            return
        while self._stack.pop() != index:  # calls that ended in an exception the model caught
            pass
        self.calls.append([index, output_shape(output)])
        if self._recurrent and self._recurrent[-1][0] == index and isinstance(module, nn.RNNBase):
            _, start, inputs = self._recurrent.pop()
            self._collapse(
                module, index, start, inputs, [self.value(t) for t in tensors_in(output)]
            )

    def _collapse(
        self, module: nn.RNNBase, index: int, start: int, inputs: list[int], outputs: list[int]
    ) -> None:
        """Replaces the steps of a recurrent layer by one operator with the same figures.

        Five hundred frames through a GRU are 20,000 operators; the rule needs only shapes.
        """
        steps = self.ops[start:]
        del self.ops[start:]
        weights = [self.value(w) for w in module._flat_weights if isinstance(w, torch.Tensor)]
        self.ops.append(
            {
                "op": "recurrent",
                "module": index,
                "in": [*inputs, *weights],
                "out": outputs,
                "attrs": {
                    "mode": module.mode,
                    "weights": [len(inputs), len(inputs) + len(weights)],
                    "scratch_bytes": self._scratch(steps, {*inputs, *weights, *outputs}),
                },
            }
        )

    def _scratch(self, steps: list[dict[str, Any]], outside: set[int]) -> int:
        """Most bytes alive at once inside some operators, beyond what lives outside them."""
        homes = {self.values[index][2] for index in outside}
        last: dict[int, int] = {}
        for when, op in enumerate(steps):
            for index in (*op["in"], *op["out"]):
                home = self.values[index][2]
                if isinstance(home, int) and home not in homes:
                    last[home] = when
        live: set[int] = set()
        most = now = 0
        for when, op in enumerate(steps):
            for home in {self.values[index][2] for index in op["out"]}:
                if home in last and home not in live:
                    live.add(home)
                    now += self.storage_bytes[home]
            most = max(most, now)
            for home in [home for home in live if last[home] == when]:
                live.remove(home)
                now -= self.storage_bytes[home]
        return most

    # -- operators ----------------------------------------------------------------------------

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):  # cond, while_loop: named, not looked into
            return self._opaque(func, args, kwargs)
        name = f"{func.namespace}.{func._schema.name.rpartition('::')[2]}"
        if func._schema.is_mutable or name in _BATCHNORM:
            self.before_write([*tensors_in(args), *tensors_in(kwargs)])
        with self:  # a composite operator (seen whole in inference mode) is recorded as its parts
            parts = func.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        output = func(*args, **kwargs)
        tensors = [*tensors_in(args), *tensors_in(kwargs)]
        inputs = [self.value(t) for t in tensors]
        inputs[1:1] = [self._packed(weight) for weight in packed_weights((*args, *kwargs.values()))]
        results = list(tensors_in(output))
        known = {self._key(t) for t in tensors}
        if results and not func._schema.is_mutable and all(self._key(t) in known for t in results):
            for t in results:
                self.value(t)
            return output  # a view: nothing is computed
        if name.startswith("quantized_decomposed.dequantize") and inputs:
            home = self.values[inputs[0]][2]
            if isinstance(home, str):  # a stored weight made readable: no activation
                for t in results:
                    key = self._key(t)
                    self._homes[key] = home
        outputs = [self.value(t, born=True) for t in results]
        self.ops.append(
            {
                "op": canonical(name),
                "module": self._owner(inputs, outputs),
                "in": inputs,
                "out": outputs,
                "attrs": attributes(func, args, kwargs),
            }
        )
        return output

    def _owner(self, inputs: list[int], outputs: list[int]) -> int:
        """Returns the module that runs an operator.

        Inside a scripted network no hook is called: an operator that reads a parameter belongs to
        the module that holds it, and counts as a call of it.
        """
        current = self._stack[-1] if self._stack else 0
        if not self._scripted:
            return current
        homes = [self.values[index][2] for index in inputs]
        paths = {
            home.rpartition(".")[0]
            for home in homes
            if isinstance(home, str) and home in self.stored["parameters"]
        }
        if not paths:
            return current
        if len(paths) > 1:  # a fused block: the module around all of them
            return self._paths.get(_around(paths), current)
        index = self._paths.get(paths.pop(), current)
        if index != current and outputs:
            self.calls.append([index, self.values[outputs[0]][0]])
        return index

    def _opaque(
        self, func: HigherOrderOperator, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Records an operator that runs functions of its own; it has no counting rule."""
        output = func(*args, **kwargs)
        self.ops.append(
            {
                "op": f"higher_order.{func}",
                "module": self._stack[-1] if self._stack else 0,
                "in": [self.value(t) for t in tensors_in([args, kwargs])],
                "out": [self.value(t, born=True) for t in tensors_in(output)],
                "attrs": {},
            }
        )
        return output

    def plain(self) -> dict[str, Any]:
        """Returns the graph as plain Python, without the values that no operator touches."""
        used: dict[int, int] = {}
        order: Iterable[int] = (
            index
            for group in (
                self.inputs,
                *(part for op in self.ops for part in (op["in"], op["out"])),
                self.outputs,
            )
            for index in group
        )
        for index in order:
            used.setdefault(index, len(used))
        buffers: dict[int, int] = {}
        values = []
        for index in used:
            shape, dtype, home = self.values[index]
            if isinstance(home, int):
                home = buffers.setdefault(home, len(buffers))
            values.append([shape, dtype, home])
        return {
            "version": GRAPH_VERSION,
            "modules": self.modules,
            "calls": self.calls,
            **self.stored,
            "unsaved": self.unsaved,
            "tied": self.tied,
            "frozen": self.frozen,
            "storage_bytes": [self.storage_bytes[home] for home in buffers],
            "values": values,
            "inputs": [used[index] for index in self.inputs],
            "outputs": [used[index] for index in self.outputs],
            "ops": [
                {**op, "in": [used[i] for i in op["in"]], "out": [used[i] for i in op["out"]]}
                for op in self.ops
            ],
        }
