"""One forward pass of a live module, recorded as an operator graph. Imports torch.

The pass runs without gradients, in eval mode, under a dispatch mode that sees every operator below
modules, functionals, parametrisations and subclasses alike. While it runs, the fused kernels that
hide products are off (multi-head fast path, flash and memory-efficient attention); a fused oneDNN
LSTM is either inside a collapsed recurrent layer or has its own counting rule. Afterwards the
module and the process are as before: training flags, parameters, buffers, attributes, hooks,
random generators, switches; also when the forward fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any

import torch
from torch import nn

from compressor.audit.observe import tensors_in
from compressor.audit.recorder import Recorder
from compressor.audit.shapes import parse_shapes
from compressor.audit.untouched import untouched
from compressor.errors import MeasureError, UsageError

__all__ = ["graph_of", "make_inputs"]


def make_inputs(module: nn.Module, input_shape: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """Makes random inputs in the number type of the module's first floating parameter.

    Args:
        module: the network.
        input_shape: the shape of one input with its batch axis, (1, 1, 40, 51), or a sequence of
            such shapes for several inputs.

    Raises:
        UsageError: not a shape.
        MeasureError: more numbers than the memory holds.
    """
    shapes = parse_shapes(input_shape)
    first = next((p for p in module.parameters() if p.is_floating_point()), None)
    dtype = first.dtype if first is not None else torch.float32
    device = first.device if first is not None else torch.device("cpu")
    if dtype.itemsize < 2:  # float8 weights: the activations are not
        dtype = torch.float32
    generator = torch.Generator().manual_seed(0)
    inputs = []
    for shape in shapes:
        try:
            values = torch.randn(shape, generator=generator)
        except (RuntimeError, MemoryError) as error:
            raise MeasureError(
                f"input shape {shape}: {prod(shape):,} numbers do not fit into the memory; give a "
                "smaller one"
            ) from error
        inputs.append(values.to(device=device, dtype=dtype))
    return tuple(inputs)


def graph_of(module: nn.Module, inputs: Any) -> dict[str, Any]:
    """Runs `module` once and returns its operator graph as plain Python.

    Args:
        module: any torch module; it is left exactly as it was.
        inputs: a tensor, a tuple of positional inputs, or a mapping of keyword inputs, each with
            its batch axis ((1, C, M, T) for one segment).

    Returns:
        The graph in the form that `compressor.audit.graph` describes (JSON-able).

    Raises:
        MeasureError: the forward pass failed; the message carries its error.
        UsageError: `module` is not a torch module.
    """
    if not isinstance(module, nn.Module):
        raise UsageError(f"expected a torch.nn.Module, found {type(module).__name__}")
    args, kwargs = _arguments(inputs)
    recorder = Recorder(module)
    recorder.add_inputs([*args, *kwargs.values()])
    with ExitStack() as stack:
        stack.callback(recorder.release)
        snapshot = stack.enter_context(untouched(module))
        recorder.before_write = snapshot.before_write
        stack.enter_context(_plain_kernels())
        stack.enter_context(torch.no_grad())
        try:
            with recorder.hooks(), recorder:
                output = module(*args, **kwargs)
        except MeasureError:
            raise
        except Exception as error:  # whatever a user's forward raises
            shapes = ", ".join(str(tuple(t.shape)) for t in tensors_in([args, kwargs]))
            reason = str(error).strip().splitlines()[:1] or [""]
            name = getattr(module, "original_name", type(module).__name__)
            on = f"an input of shape {shapes}" if shapes else "inputs without a tensor"
            raise MeasureError(
                f"{name} cannot run on {on}: "
                f"{type(error).__name__}: {reason[0][:300]}; give the shape that the network takes"
            ) from error
        recorder.outputs = [recorder.value(t) for t in tensors_in(output)]
        return recorder.plain()


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(inputs, Mapping):
        return (), dict(inputs)
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    return (inputs,), {}


@contextmanager
def _plain_kernels() -> Iterator[None]:
    """Switches off threads and the kernels that hide products in one operator; restores both."""
    cuda: Any = torch.backends.cuda  # untyped functions
    mha = torch.backends.mha
    before = (
        mha.get_fastpath_enabled(),
        cuda.flash_sdp_enabled(),
        cuda.mem_efficient_sdp_enabled(),
        cuda.cudnn_sdp_enabled(),
        cuda.math_sdp_enabled(),
    )
    threads = torch.get_num_threads()
    try:
        # one pass of a small network: a second thread would mostly wait, on the same processor time
        torch.set_num_threads(1)
        mha.set_fastpath_enabled(False)
        cuda.enable_flash_sdp(False)
        cuda.enable_mem_efficient_sdp(False)
        cuda.enable_cudnn_sdp(False)
        cuda.enable_math_sdp(True)
        yield
    finally:
        torch.set_num_threads(threads)
        mha.set_fastpath_enabled(before[0])
        cuda.enable_flash_sdp(before[1])
        cuda.enable_mem_efficient_sdp(before[2])
        cuda.enable_cudnn_sdp(before[3])
        cuda.enable_math_sdp(before[4])
