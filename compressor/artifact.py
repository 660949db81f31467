"""The model file: one self-describing `.pt` that every command reads and writes.

A file is a zip written by `torch.save` that holds one dict of plain Python values and tensors, so
that `torch.load(weights_only=True)` reads it: architecture name and arguments, input, front-end,
classes, history of steps, metrics, traced graph, provenance and the state dict. The network is
rebuilt from the zoo; what pruning changed is read off the shapes of the stored tensors, so that a
sliced network needs no code of its own. A checksum over everything finds damaged files.

Format 2 adds quantised networks: layers are stored as the integers that are deployed (weights int8,
biases int32) under their own names, with scales and folded layers in the field `quantization`.
Format 3 is format 2 with weights of up to 4 bits, stored two to a byte; in memory they are int8.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

import compressor
from compressor import nibbles, rebuild
from compressor.errors import ArtifactError, CompressorError

__all__ = ["FORMAT", "FORMAT_VERSION", "Artifact", "from_model", "from_quantized", "load", "save"]

FORMAT = "compressor-model"
FORMAT_VERSION = 3  # the newest that is read
# Each network is written in the oldest format that can hold it, so that older versions read it.
FLOAT_VERSION, INTEGER_VERSION, PACKED_VERSION = 1, 2, 3
LAYOUTS = ("CFT", "CTF")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, eq=False)
class Artifact:
    """A network with everything that is needed to run, audit and continue it.

    Attributes:
        arch: name in the zoo.
        arch_args: arguments of its builder (frames, mels, ...), without num_classes.
        num_classes: classes.
        classes: their names in the order of the outputs; empty if unknown.
        input_shape: one input without the batch axis, in `layout` order.
        layout: "CFT" (channel, mel band, frame) or "CTF" (channel, frame, mel band).
        front_end: the log-mel front-end as a dict.
        standardizer: mean and standard deviation of the features as a dict.
        history: one dict for each step that made the network, with its settings.
        metrics: results, such as {"test": {...}}.
        state_dict: tensors by name, on the CPU; floating ones may be float16 or bfloat16, those of
            quantised layers are int8 weights (of any width, one a byte) and int32 biases.
        graph: the traced operators (`compressor.audit.trace.graph_of`).
        provenance: command, versions, seed, data hash.
        quantization: empty for a float network; otherwise scales of "weights", "biases" and
            "activations" by layer, "folded" layers and the settings.
        format_version: version of the file's layout.
    """

    arch: str
    arch_args: dict[str, Any]
    num_classes: int
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    layout: str
    front_end: dict[str, Any]
    standardizer: dict[str, Any]
    history: tuple[dict[str, Any], ...]
    metrics: dict[str, Any]
    state_dict: dict[str, Tensor]
    graph: dict[str, Any] = field(repr=False)
    provenance: dict[str, Any] = field(default_factory=dict)
    quantization: dict[str, Any] = field(default_factory=dict)
    format_version: int = FLOAT_VERSION

    def __post_init__(self) -> None:
        """Raises ArtifactError for a field of the wrong kind."""
        _check(self)

    @property
    def dtype(self) -> str:
        """Number type in which the weights are stored: "float32", "float16", ..., "int8"."""
        if self.quantization:
            return "int8"
        kinds = [t.dtype for t in self.state_dict.values() if t.is_floating_point()]
        return str(kinds[0]).removeprefix("torch.") if kinds else "float32"

    def build(self) -> nn.Module:
        """The network in evaluation mode, in float32; the random state is left alone.

        A quantised network comes with its weights and biases on the grids of their integers;
        activations are not rounded in it.

        Raises:
            ArtifactError: the stored tensors do not fit the architecture.
        """
        import zoo

        try:
            with torch.random.fork_rng(devices=[]):
                model = zoo.build(self.arch, self.num_classes, **self.arch_args)
            stored = self.state_dict
            if self.quantization:
                stored = rebuild.dequantized(stored, self.quantization)
                rebuild.fold_layers(model, tuple(self.quantization.get("folded", ())), stored)
            rebuild.check_names(self.arch, model, stored)
            rebuild.resize(model, stored)
            model.load_state_dict(stored, strict=True)
            model.eval()
            rebuild.check_runs(model, self.input_shape)
        except ArtifactError:
            raise
        except (CompressorError, RuntimeError, TypeError, ValueError, KeyError) as error:
            raise ArtifactError(
                f"network {self.arch!r} with arguments {self.arch_args} cannot be rebuilt from the "
                f"stored tensors: {_one_line(error)}"
            ) from error
        return model


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]


def _is_strings(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(v, str) for v in value)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) for k in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _check(artifact: Artifact) -> None:
    """Raises ArtifactError naming the first field that is not what it should be."""
    a = artifact
    shape = a.input_shape
    checks: dict[str, tuple[bool, str]] = {
        "arch": (isinstance(a.arch, str) and bool(a.arch), "the name of a network"),
        "arch_args": (_is_dict(a.arch_args), "a dict with names as keys"),
        "num_classes": (_is_count(a.num_classes), "a whole number of at least 1"),
        "classes": (
            _is_strings(a.classes) and len(a.classes) in (0, a.num_classes),
            f"a tuple of {a.num_classes} names, or empty",
        ),
        "input_shape": (
            isinstance(shape, tuple) and len(shape) == 3 and all(map(_is_count, shape)),
            "three whole numbers of at least 1, without the batch axis",
        ),
        "layout": (a.layout in LAYOUTS, " or ".join(LAYOUTS)),
        "history": (
            isinstance(a.history, tuple) and all(map(_is_dict, a.history)),
            "a tuple of dicts",
        ),
        "state_dict": (
            _is_dict(a.state_dict) and all(isinstance(v, Tensor) for v in a.state_dict.values()),
            "a dict of tensors",
        ),
        "format_version": (_is_count(a.format_version), "a whole number of at least 1"),
    }
    for name in ("front_end", "standardizer", "metrics", "graph", "provenance", "quantization"):
        checks[name] = (_is_dict(getattr(a, name)), "a dict with names as keys")
    for name, (good, wanted) in checks.items():
        if not good:
            raise ArtifactError(
                f"field {name!r} of a model file is {str(getattr(a, name))[:80]!r}, but must be "
                f"{wanted}"
            )


def _plain(value: Any, where: str) -> Any:
    """`value` as plain Python that `weights_only` can read back; numpy scalars are converted."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        items = [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, (bool, int, float, str)):  # subclasses: enum members, numpy.float64
        return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return _plain(value.item(), where)
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), where)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise ArtifactError(
        f"{where} of a model file is a {type(value).__name__}, but only plain values (numbers, "
        "text, lists, dicts) can be stored; convert it first"
    )


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A contiguous copy on the CPU, floating point numbers as `dtype`."""
    plain = tensor.detach().to("cpu")
    if plain.is_floating_point():
        if not bool(torch.isfinite(plain).all()):
            raise ArtifactError(f"tensor {name!r} holds values that are not finite: not stored")
        plain = plain.to(dtype)
        if not bool(torch.isfinite(plain).all()):
            raise ArtifactError(
                f"tensor {name!r} reaches {tensor.abs().max().item():.4g}, beyond the largest "
                f"{str(dtype).removeprefix('torch.')} of {torch.finfo(dtype).max:.5g}; store "
                "float32"
            )
    return plain.clone(memory_format=torch.contiguous_format)


def from_model(
    model: nn.Module,
    *,
    arch: str,
    arch_args: Mapping[str, Any],
    num_classes: int,
    classes: Sequence[str],
    input_shape: Sequence[int],
    layout: str,
    front_end: Mapping[str, Any],
    standardizer: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]] = (),
    metrics: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    dtype: str = "float32",
) -> Artifact:
    """Describe `model`; it is rebuilt once from the description, to be sure that it can be.

    Args:
        model: a network of the zoo, pruned or not; left as it is.
        arch: its name in the zoo.
        arch_args: arguments it was built with.
        num_classes: classes.
        classes: names of the classes in the order of the outputs.
        input_shape: one input without the batch axis, in `layout` order.
        layout: "CFT" or "CTF".
        front_end: the front-end as a dict.
        standardizer: the feature standardisation as a dict.
        history: steps that made the network.
        metrics: results.
        provenance: where it comes from.
        dtype: "float32", or "float16" or "bfloat16" to store weights and BatchNorm statistics in
            two bytes.

    Raises:
        ArtifactError: a field of the wrong kind, weights that are not finite (or overflow in
            float16), or a network that does not fit `arch` and `arch_args`.
    """
    if dtype not in DTYPES:
        raise ArtifactError(f"weights cannot be stored as {dtype!r}; known: {', '.join(DTYPES)}")
    tensors = {n: _stored(n, t, DTYPES[dtype]) for n, t in model.state_dict().items()}
    parts: dict[str, Any] = {
        "arch": arch,
        "arch_args": dict(arch_args),
        "num_classes": num_classes,
        "classes": classes,
        "input_shape": input_shape,
        "layout": layout,
        "front_end": front_end,
        "standardizer": standardizer,
        "history": history,
        "metrics": metrics or {},
        "provenance": provenance or {},
    }
    return _described(tensors, {}, parts)


class Quantized(Protocol):
    """What `from_quantized` takes (compressor.methods.quant.QuantizedNetwork)."""

    def tensors(self) -> dict[str, Tensor]:
        """The state dict with integer weights and biases."""

    def record(self) -> dict[str, Any]:
        """Scales, folded layers and settings, as plain values."""


def from_quantized(network: Quantized, like: Artifact) -> Artifact:
    """Describe a quantised network made from the network of `like`, whose description it shares.

    Args:
        network: integers, scales and folded layers.
        like: the float network it was made from; history, metrics and provenance are taken over.

    Raises:
        ArtifactError: the integers do not fit the architecture.
    """
    tensors = {n: _stored(n, t, torch.float32) for n, t in network.tensors().items()}
    parts = {name: getattr(like, name) for name in _DESCRIPTION}
    return _described(tensors, _plain(network.record(), "quantization"), parts)


_DESCRIPTION = (
    *("arch", "arch_args", "num_classes", "classes", "input_shape", "layout", "front_end"),
    *("standardizer", "history", "metrics", "provenance"),
)


def _described(
    tensors: dict[str, Tensor], quantization: dict[str, Any], parts: Mapping[str, Any]
) -> Artifact:
    """An artifact of these tensors; it is rebuilt once, and the rebuilt network is traced."""
    from compressor.audit.trace import graph_of

    classes = parts["num_classes"]
    args = _plain(parts["arch_args"], "arch_args")
    if args.pop("num_classes", classes) != classes:
        raise ArtifactError(f"arch_args name other num_classes than {classes}: {args}")
    described: dict[str, Any] = {
        **parts,
        "arch_args": args,
        "classes": tuple(parts["classes"]),
        "input_shape": tuple(int(s) for s in parts["input_shape"]),
        "history": tuple(_plain(step, f"history[{i}]") for i, step in enumerate(parts["history"])),
        "quantization": quantization,
        "state_dict": tensors,
        "format_version": _version(tensors, quantization),
    }
    for name in ("front_end", "standardizer", "metrics", "provenance"):
        described[name] = _plain(parts[name], name)
    rebuilt = Artifact(graph={}, **described).build()
    example = torch.zeros(1, *described["input_shape"])
    return Artifact(graph=_plain(graph_of(rebuilt, example), "graph"), **described)


def _version(tensors: Mapping[str, Tensor], quantization: Mapping[str, Any]) -> int:
    """The oldest format that can hold a network."""
    if not quantization:
        return FLOAT_VERSION
    return PACKED_VERSION if nibbles.narrow_weights(tensors, quantization) else INTEGER_VERSION


def _checksum(record: Mapping[str, Any]) -> str:
    """SHA-256 over all fields; tensors with their names, types and shapes."""
    digest = hashlib.sha256()
    plain = {k: v for k, v in record.items() if k not in ("state_dict", "checksum")}
    digest.update(repr(sorted(plain.items())).encode())
    for name, tensor in record["state_dict"].items():
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save(artifact: Artifact, path: str | Path) -> None:
    """Write `artifact` to `path`: complete or not at all, and the same bytes for the same content.

    Raises:
        ArtifactError: the file cannot be written.
    """
    target = Path(path)
    record: dict[str, Any] = {f.name: getattr(artifact, f.name) for f in fields(artifact)}
    record |= {"format": FORMAT, "made_with": compressor.__version__}
    record["format_version"] = _version(artifact.state_dict, artifact.quantization)
    narrow = nibbles.narrow_weights(artifact.state_dict, artifact.quantization)
    if narrow:
        record["packed"] = narrow
        record["state_dict"] = {
            name: nibbles.packed(tensor) if name in narrow else tensor
            for name, tensor in artifact.state_dict.items()
        }
    record["checksum"] = _checksum(record)
    buffer = io.BytesIO()  # a name of its own would be written into the archive
    torch.save(record, buffer)
    scratch = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with scratch.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(target)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ArtifactError(f"{target} cannot be written: {error.strerror or error}") from error


def _read(path: Path) -> Any:
    """Whatever the file holds, as long as it is plain data."""
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder, but must be a model file (.pt)")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content:
        raise ArtifactError(f"{path} is empty; write it again")
    if not zipfile.is_zipfile(io.BytesIO(content)):
        if content.startswith(b"PK"):
            raise ArtifactError(f"{path} is cut off or damaged ({len(content):,} bytes)")
        raise ArtifactError(f"{path} is not a model file of compressor (no zip archive)")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch explains at length what the message below says
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ArtifactError(
            f"{path} holds Python objects instead of plain data (a pickled model, or something "
            "hostile) and was not loaded; write models with compressor"
        ) from error
    except Exception as error:
        raise ArtifactError(
            f"{path} is damaged or not a model file of compressor: {_one_line(error)}"
        ) from error


def load(path: str | Path) -> Artifact:
    """Read a model file.

    Raises:
        ArtifactError: no file, a broken or foreign one, or one of a newer version; one line each.
    """
    path = Path(path)
    record = _read(path)
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        what = f"a {type(record).__name__}"
        if isinstance(record, dict):
            tensors = bool(record) and all(isinstance(v, Tensor) for v in record.values())
            what = "a plain state dict" if tensors else "a checkpoint of another program"
        raise ArtifactError(
            f"{path} is not a model file of compressor but {what}; it does not say which network "
            "it belongs to: load it into the network and use compressor.artifact.from_model"
        )
    version = record.get("format_version")
    if not isinstance(version, int) or version < 1:
        raise ArtifactError(f"{path} is damaged: format_version is {version!r}")
    if version > FORMAT_VERSION:
        raise ArtifactError(
            f"{path} was written by compressor {record.get('made_with', '(unknown)')} in format "
            f"{version}; this is compressor {compressor.__version__}, which reads formats up to "
            f"{FORMAT_VERSION}: upgrade compressor"
        )
    names = {f.name for f in fields(Artifact)}
    if version == FLOAT_VERSION and "quantization" not in record:
        names.discard("quantization")  # written before there was any
    missing = sorted((names | {"checksum"}) - record.keys())
    if missing:
        raise ArtifactError(f"{path} is damaged: {', '.join(missing)} missing")
    try:
        found = {name: record[name] for name in names}
        if "packed" in record:
            found["state_dict"] = nibbles.unpacked(record["state_dict"], record["packed"])
        artifact = Artifact(**found)
        intact = _checksum(record) == record["checksum"]
    except ArtifactError as error:
        raise ArtifactError(f"{path} is damaged: {error}") from error
    except Exception as error:
        raise ArtifactError(f"{path} is damaged: {_one_line(error)}") from error
    if not intact:
        raise ArtifactError(f"{path} is damaged: its content does not match its checksum")
    return artifact
