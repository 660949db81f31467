"""The part of the TFLite schema that counting needs, as typed records.

Field numbers follow the public schema (`schema.fbs`, version 3, up to the buffers outside the
flatbuffer of files above 2 GB). Everything is read once, in order, with bounded counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from compressor.audit.readers.flatbuffer import Buffer, Table

__all__ = ["BITS", "BUILTINS", "ModelRecord", "OpRecord", "SubgraphRecord", "TensorRecord"]
__all__ += ["read_model"]

# Names of the number types, as torch has them, by their code; then the bits of one element.
_TYPE_NAMES = """
float32 float16 int32 uint8 int64 string bool int16 complex64 int8 float64 complex128 uint64
resource variant uint32 uint16 int4 bfloat16 int2 uint4
"""
_TYPES = tuple(_TYPE_NAMES.split())
BITS: Mapping[str, int] = {
    "float64": 64,
    "float32": 32,
    "float16": 16,
    "bfloat16": 16,
    "complex64": 64,
    "complex128": 128,
    "int64": 64,
    "int32": 32,
    "int16": 16,
    "int8": 8,
    "int4": 4,
    "int2": 2,
    "uint64": 64,
    "uint32": 32,
    "uint16": 16,
    "uint8": 8,
    "uint4": 4,
    "bool": 8,
}  # string, resource and variant have no fixed width

# Names of the built-in operators by their code.
_BUILTIN_NAMES = """
ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE
EMBEDDING_LOOKUP FLOOR FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D
LOCAL_RESPONSE_NORMALIZATION LOGISTIC LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6
RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL
CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER BATCH_TO_SPACE_ND
SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST
PRELU MAXIMUM ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN
TRANSPOSE_CONV SPARSE_TO_DENSE TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW
ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK
REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR
LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL REVERSE_V2 ADD_N GATHER_ND COS
WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND HARD_SWISH IF WHILE
NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG
REAL COMPLEX_ABS HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL
CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL
BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD
UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2 UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR
RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM
STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE STABLEHLO_BROADCAST_IN_DIM
STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE STABLEHLO_ABS
STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG
STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER
STABLEHLO_RSQRT STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER
STABLEHLO_COMPARE STABLEHLO_CONVERT STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE
STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT
STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE STABLEHLO_RNG_BIT_GENERATOR
REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
"""
BUILTINS: tuple[str, ...] = tuple(_BUILTIN_NAMES.split())

_MAX_SUBGRAPHS = 1_000
_MAX_RECORDS = 60_000  # tensors, operators or buffers of the whole file
_MAX_RANK = 32
_MAX_ELEMENTS = 1 << 44  # of one tensor: far above any network, low enough for plain numbers
_CUSTOM = BUILTINS.index("CUSTOM")


@dataclass(frozen=True, slots=True)
class TensorRecord:
    """One tensor of a subgraph.

    Attributes:
        name: as the file has it, printable; shape; dtype: as torch names it, or "string" and such.
        buffer: index of its buffer (0: none).
        variable: whether it keeps its value from one inference to the next.
        open_axes: axes that the file leaves open; `shape` has 1 there.
        scales: how many scales it has (0: not quantised); zero_points: raw int64 numbers.
        axis: which axis the scales run along.
        index_bytes: bytes of the indices of a sparse tensor; None: it is dense.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    buffer: int
    variable: bool
    open_axes: tuple[int, ...]
    scales: int
    zero_points: memoryview
    axis: int
    index_bytes: int | None

    @property
    def numel(self) -> int:
        """Elements of the shape."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class OpRecord:
    """One operator; an operand of -1 is left out. `options` is its table of options, if any."""

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Table | None


@dataclass(frozen=True, slots=True)
class SubgraphRecord:
    """One subgraph."""

    name: str
    tensors: tuple[TensorRecord, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    ops: tuple[OpRecord, ...]


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """The file: subgraphs, stored buffers, and signatures as (name, subgraph)."""

    subgraphs: tuple[SubgraphRecord, ...]
    buffers: tuple[memoryview, ...]
    signatures: tuple[tuple[str, int], ...]


def read_model(source: Buffer) -> ModelRecord:
    """Reads a whole model.

    Raises:
        ModelFileError: not the schema, or something that lies outside the file.
    """
    root = source.root()
    version = root.integer(0, "I")
    if version != 3:
        raise source.fail(f"schema version {version}, expected 3")
    codes = tuple(_code(table) for table in root.tables(1))
    buffers = tuple(_data(source, table) for table in root.tables(4))
    parts = root.tables(2)
    if not parts:
        raise source.fail("no subgraph")
    if len(parts) > _MAX_SUBGRAPHS:
        raise source.fail(f"{len(parts):,} subgraphs, at most {_MAX_SUBGRAPHS:,} are read")
    room = [_MAX_RECORDS]
    subgraphs = tuple(_subgraph(source, table, codes, len(buffers), room) for table in parts)
    signatures = tuple((table.text(2), table.integer(4, "I")) for table in root.tables(7))
    return ModelRecord(subgraphs, buffers, signatures)


def _code(table: Table) -> str:
    """Name of an operator: the newer field holds codes above 127, where the older one ends."""
    code = max(table.integer(0, "b"), table.integer(3, "i"))
    if code == _CUSTOM:
        return f"CUSTOM:{table.text(1, 80)}"
    return BUILTINS[code] if 0 <= code < len(BUILTINS) else f"BUILTIN_{code}"


def _data(source: Buffer, table: Table) -> memoryview:
    """Bytes of a buffer: inside the flatbuffer, or behind it by offset and size (above 1)."""
    offset, size = table.integer(1, "Q"), table.integer(2, "Q")
    if offset > 1 and size > 1:
        if offset + size > source.size:
            raise source.fail(
                f"a buffer of {size:,} B at byte {offset:,}, the file has {source.size:,} B"
            )
        return source.data[offset : offset + size]
    return table.raw(0, 1)


def _subgraph(
    source: Buffer, table: Table, codes: tuple[str, ...], buffers: int, room: list[int]
) -> SubgraphRecord:
    tensors = table.tables(0)
    ops = table.tables(3)
    room[0] -= len(tensors) + len(ops)
    if room[0] < 0:
        raise source.fail(f"more than {_MAX_RECORDS:,} tensors and operators")
    count = len(tensors)
    return SubgraphRecord(
        name=table.text(4),
        tensors=tuple(_tensor(source, item, buffers) for item in tensors),
        inputs=_indices(source, table.integers(1, "i"), count, least=0),
        outputs=_indices(source, table.integers(2, "i"), count, least=0),
        ops=tuple(_op(source, item, codes, count) for item in ops),
    )


def _indices(
    source: Buffer, indices: tuple[int, ...], count: int, least: int = -1
) -> tuple[int, ...]:
    for index in indices:
        if not least <= index < count:
            raise source.fail(f"tensor {index} of {count}")
    return indices


def _op(source: Buffer, table: Table, codes: tuple[str, ...], tensors: int) -> OpRecord:
    code = table.integer(0, "I")
    if code >= len(codes):
        raise source.fail(f"operator code {code} of {len(codes)}")
    return OpRecord(
        name=codes[code],
        inputs=_indices(source, table.integers(1, "i"), tensors),
        outputs=_indices(source, table.integers(2, "i"), tensors, least=0),
        options=table.table(4) or table.table(12),
    )


def _tensor(source: Buffer, table: Table, buffers: int) -> TensorRecord:
    name = table.text(3)
    shape = table.integers(0, "i")
    signature = table.integers(7, "i")
    if len(shape) > _MAX_RANK or min(shape, default=0) < 0 or prod(shape) > _MAX_ELEMENTS:
        raise source.fail(f"tensor {name[:80]!r} has the shape {list(shape)[:_MAX_RANK]}")
    code = table.integer(1, "b")
    if not 0 <= code < len(_TYPES):
        raise source.fail(f"tensor {name[:80]!r} has the unknown number type {code}")
    buffer = table.integer(2, "I")
    if buffer and buffer >= buffers:
        raise source.fail(f"tensor {name[:80]!r} lives in buffer {buffer} of {buffers}")
    if table.integer(10, "I"):
        raise source.fail(f"tensor {name[:80]!r} is stored in another file, which is not read")
    known = len(signature) == len(shape)
    quantised = table.table(4)
    sparsity = table.table(6)
    return TensorRecord(
        name=name,
        shape=shape,
        dtype=_TYPES[code],
        buffer=buffer,
        variable=bool(table.integer(5, "B")),
        open_axes=tuple(i for i, size in enumerate(signature) if size < 0) if known else (),
        scales=len(quantised.raw(2, 4)) // 4 if quantised else 0,
        zero_points=quantised.raw(3, 8) if quantised else memoryview(b""),
        axis=quantised.integer(6, "i") if quantised else 0,
        index_bytes=_index_bytes(sparsity) if sparsity else None,
    )


def _index_bytes(sparsity: Table) -> int:
    """Bytes of segments and indices; each is a table with one vector of 4, 2 or 1 byte numbers."""
    total = 0
    for dimension in sparsity.tables(2):
        for kind, field in ((2, 3), (4, 5)):
            width = {1: 4, 2: 2, 3: 1}.get(dimension.integer(kind, "B"), 0)
            values = dimension.table(field)
            if width and values is not None:
                total += len(values.raw(0, width))
    return total
