"""What a pickle of tensors may refer to: the table of safe names and what each of them builds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from compressor.audit.readers.widths import WIDTHS

__all__ = [
    "CALLS",
    "DTYPES",
    "STORAGES",
    "Global",
    "StorageRef",
    "TensorRef",
    "flat_key",
    "size_of",
]

MAX_SIZE = 1 << 48  # largest shape, stride, offset or storage size taken seriously


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A storage named by a persistent id: member key, number type, elements."""

    key: str
    dtype: str
    numel: int


@dataclass(frozen=True, slots=True)
class TensorRef:
    """A tensor: a view of a storage."""

    storage: StorageRef
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    requires_grad: bool = False
    is_parameter: bool = False
    quantised: bool = False


@dataclass(frozen=True, slots=True)
class Global:
    """A global the pickle named, not looked up anywhere."""

    name: str


# torch storage classes -> number types; UntypedStorage comes with its own dtype elsewhere
STORAGES: Mapping[str, str] = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    "torch.QInt8Storage": "qint8",
    "torch.QUInt8Storage": "quint8",
    "torch.QInt32Storage": "qint32",
    "torch.storage.UntypedStorage": "uint8",
}
_DTYPE_NAMES = """
torch.float64 torch.float32 torch.float16 torch.bfloat16 torch.complex64 torch.complex128
torch.int64 torch.int32 torch.int16 torch.int8 torch.uint8 torch.uint16 torch.uint32 torch.uint64
torch.bool torch.float8_e4m3fn torch.float8_e5m2 torch.float8_e4m3fnuz torch.float8_e5m2fnuz
torch.qint8 torch.quint8 torch.qint32 torch.per_tensor_affine torch.per_channel_affine
torch.per_channel_affine_float_qparams torch.strided torch.contiguous_format torch.channels_last
torch.preserve_format
"""
DTYPES = frozenset(_DTYPE_NAMES.split())


def flat_key(key: Any) -> Any:
    """Passes on a flat key; raises ValueError: hashing a deeply shared tuple takes for ever."""
    flat = isinstance(key, (str, int, float, bytes, type(None)))
    if flat or (isinstance(key, tuple) and len(key) <= 16 and all(map(_is_flat, key))):
        return key
    raise ValueError(f"a key of type {type(key).__name__}")


def _is_flat(item: Any) -> bool:
    return isinstance(item, (str, int, float, bytes, type(None)))


def size_of(value: Any) -> int:
    """Passes on a size, shape entry, stride or offset that can be one; raises ValueError."""
    if type(value) is not int or not 0 <= value <= MAX_SIZE:
        raise ValueError("a size out of range")
    return value


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, (tuple, list)) or len(value) > 32:
        raise ValueError("a shape that is none")
    return tuple(map(size_of, value))


def _tensor(args: tuple[Any, ...], quantised: bool = False) -> TensorRef:
    storage, offset, shape, stride, grad = args[0], *args[1:4], args[5 if quantised else 4]
    if not isinstance(storage, StorageRef):
        raise TypeError("a tensor without a storage")
    shape, stride = _sizes(shape), _sizes(stride)
    if len(shape) != len(stride):
        raise ValueError("a shape and strides of different length")
    return TensorRef(storage, size_of(offset), shape, stride, bool(grad), quantised=quantised)


def _tensor_v3(args: tuple[Any, ...]) -> TensorRef:
    """Like v2 with the number type apart, over untyped storage (float8, uint16, ...)."""
    plain = _tensor(args)
    dtype = args[6]
    if not isinstance(dtype, Global) or dtype.name not in DTYPES:
        raise TypeError("a tensor of unknown number type")
    kind = dtype.name.removeprefix("torch.")
    width = WIDTHS.get(kind, 0)
    if not width or plain.storage.numel % width:
        raise ValueError("a storage that does not fit its number type")
    storage = StorageRef(plain.storage.key, kind, plain.storage.numel // width)
    return TensorRef(storage, plain.offset, plain.shape, plain.stride, plain.requires_grad)


def _parameter(args: tuple[Any, ...]) -> TensorRef:
    tensor = args[0]
    if not isinstance(tensor, TensorRef):
        raise TypeError("a parameter that is no tensor")
    return TensorRef(
        tensor.storage, tensor.offset, tensor.shape, tensor.stride, bool(args[1]), True
    )


def _ordered(args: tuple[Any, ...]) -> dict[Any, Any]:
    if not args:
        return {}
    (pairs,) = args
    if not isinstance(pairs, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in pairs
    ):
        raise TypeError("an OrderedDict of something other than pairs")
    return {flat_key(key): value for key, value in pairs}


def _encode(args: tuple[Any, ...]) -> bytes:
    text, encoding = args
    if not isinstance(text, str) or encoding != "latin1":
        raise TypeError("bytes in an odd encoding")
    return text.encode("latin1")


def _set(args: tuple[Any, ...]) -> set[Any]:
    items = args[0] if args else []
    if not isinstance(items, (list, tuple)):
        raise TypeError("a set of something other than a list")
    return {flat_key(item) for item in items}


CALLS: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": lambda args: _tensor((*args[:4], False)),
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_qtensor": lambda args: _tensor(args, quantised=True),
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch.Size": lambda args: _sizes(args[0]),
    "torch.device": lambda args: str(args[0])[:64],
    "_codecs.encode": _encode,
    "set": _set,
}
