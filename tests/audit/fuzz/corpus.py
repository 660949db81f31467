"""Small files of every format, which the fuzzer then breaks.

Only here is torch imported (for what only torch can write), never where files are read.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FORMATS", "build", "read_corpus"]

TESTS = Path(__file__).resolve().parents[2]
CANARY = "CANARY"  # what a payload would leave in the working directory, were it executed
LABEL = "Martin_INST_task1_1"


def _helpers() -> None:
    """Makes the other tests' writers importable."""
    for folder in (TESTS / "audit", TESTS / "gate"):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))


class _Payload:
    """Leaves the canary when unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (CANARY,)


def zipped(members: dict[str, bytes], *, deflate: bool = False) -> bytes:
    """A zip with a fixed date, so that the same members give the same bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
            archive.writestr(info, content)
    return data.getvalue()


def _own() -> dict[str, bytes]:
    import torch
    from torch import nn

    from compressor.audit.trace import graph_of

    _helpers()
    import packages

    made: dict[str, bytes] = {}
    for name, half in (("conv", False), ("half", True)):
        path = Path(f"{name}.pt")
        packages.write_model(path, half=half)
        made[name] = path.read_bytes()
        path.unlink()
    model = nn.GRU(3, 2, batch_first=True).eval()
    tree = {
        "format": "compressor-model",
        "format_version": 1,
        "arch": "gru",
        "input_shape": (4, 3),
        "classes": ["a", "b"],
        "state_dict": dict(model.state_dict()),
        "graph": graph_of(model, torch.zeros(1, 4, 3)),
    }
    made["gru"] = _torch_bytes(tree)
    return made


def _torch_bytes(tree: Any) -> bytes:
    import torch

    data = io.BytesIO()
    torch.save(tree, data)
    return data.getvalue()


def _states() -> dict[str, bytes]:
    import torch

    shared = torch.arange(12.0)
    plain = {
        "conv.weight": torch.ones(2, 1, 3, 3),
        "conv.weight_orig": torch.ones(4),
        "conv.weight_mask": torch.zeros(4),
        "bn.running_mean": torch.zeros(2),
        "bn.num_batches_tracked": torch.tensor(3),
        "view": shared[2:8].view(2, 3).t(),
        "tied": shared,
        "half": torch.ones(3).half(),
        "brain": torch.ones(3, dtype=torch.bfloat16),
        "complex": torch.ones(2, dtype=torch.complex64),
        "bits": torch.tensor([True, False]),
    }
    nested = {"epoch": 3, "lr": 0.1, "state_dict": plain, "args": {"a": [1, (2, None)], "b": "c"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that its own quantised tensors will go
        packed = {
            "q": torch.quantize_per_tensor(torch.ones(4), 0.1, 3, torch.quint8),
            "c": torch.quantize_per_channel(
                torch.ones(2, 3), torch.ones(2), torch.zeros(2), 0, torch.qint8
            ),
        }
        sparse = {"w": torch.eye(3).to_sparse_csr(), "coo": torch.eye(3).to_sparse()}
        made = {"packed": _torch_bytes(packed), "bad-sparse": _torch_bytes(sparse)}
    poisoned = {"w": torch.ones(2), "x": _Payload()}
    return made | {
        "plain": _torch_bytes(plain),
        "nested": _torch_bytes(nested),
        "bad-poisoned": _torch_bytes(poisoned),
    }


def _exported() -> dict[str, bytes]:
    import torch
    from torch import nn

    _helpers()
    from exported_helpers import export

    conv = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5))
    batch = torch.export.Dim("batch", min=1, max=8)
    path = export(conv, Path("c.pt2"), torch.ones(2, 2, 5, 5), dynamic=({0: batch},))
    data = path.read_bytes()
    path.unlink()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    bad = pickle.dumps(_Payload())
    poisoned = {n: bad if n.endswith((".pt", "weight_1")) else d for n, d in members.items()}
    return {"conv": data, "bad-poisoned": zipped(poisoned)}


def _safetensors() -> dict[str, bytes]:
    kinds = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1, "I64": 8, "BOOL": 1, "F8_E4M3": 1, "F64": 8}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for kind, width in kinds.items():
        header[f"layer.{kind}"] = {
            "dtype": kind,
            "shape": [2, 3],
            "data_offsets": [at, at + 6 * width],
        }
        at += 6 * width
    text = json.dumps(header).encode()
    body = bytes(i % 2 for i in range(at))
    return {"kinds": struct.pack("<Q", len(text)) + text + body}


def _onnx() -> dict[str, bytes]:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def tensor(name: str, *shape: int, kind: Any = np.float32) -> onnx.TensorProto:
        return numpy_helper.from_array(np.ones(shape, kind), name)

    def node(kind: str, inputs: str, outputs: str, **attrs: Any) -> onnx.NodeProto:
        names = ["" if name == "-" else name for name in inputs.split()]
        return helper.make_node(kind, names, outputs.split(), **attrs)

    def model(nodes: Any, weights: Any, shape: Any, **more: Any) -> bytes:
        graph = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_empty_tensor_value_info("y")],
            weights,
        )
        opsets = [helper.make_opsetid("", 21), *more.pop("opsets", ())]
        data: bytes = helper.make_model(graph, opset_imports=opsets, **more).SerializeToString()
        return data

    body = helper.make_graph(
        [node("Identity", "go", "g2"), node("Conv", "h w", "h2", pads=[1, 1])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, [1, 4, 8]),
        ],
        [helper.make_empty_tensor_value_info(name) for name in ("g2", "h2")],
    )
    loop = [
        node("Shape", "x", "s"),
        node("Reshape", "x s", "r"),
        node("Loop", "n - r", "l", body=body),
        node("Einsum", "l v", "e", equation="ncl,lk->nck"),
        node("GRU", "e gw gr", "y z", hidden_size=2),
    ]
    weights = [tensor("w", 4, 4, 3), tensor("v", 8, 5), tensor("gw", 1, 6, 5)]
    weights += [tensor("gr", 1, 6, 2), numpy_helper.from_array(np.int64(3), "n")]
    conv = [
        node("Conv", "x w b", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", "c g g g g", "n"),
        node("Relu", "n", "r"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2]),
        node("Slice", "p from to", "sl"),
        node("Pad", "sl pads", "pa"),
        node("Flatten", "pa", "f"),
        node("Constant", "", "k", value=tensor("k", 18, 3)),
        node("MatMul", "f k", "y"),
    ]
    numbers = {"from": [0, 0], "to": [1, 2], "pads": [0] * 8}
    own = [tensor("w", 2, 1, 3, 3), tensor("b", 2), tensor("g", 2)]
    own += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items()]
    quantised = [
        node("QuantizeLinear", "x sx zx", "q"),
        node("DequantizeLinear", "q sx zx", "d"),
        node("DequantizeLinear", "w sw zw", "dw", axis=1),
        node("MatMul", "d dw", "m"),
        node("MatMulInteger", "q i zx zi", "mi"),
        node("Cast", "mi", "mf", to=TensorProto.FLOAT),
        node("Add", "m mf", "y"),
    ]
    packed = helper.make_tensor("w", TensorProto.INT4, [4, 3], bytes([0x21] * 6), raw=True)
    scales = [
        packed,
        tensor("sw", 3),
        helper.make_tensor("zw", TensorProto.INT4, [3], bytes([0, 0]), raw=True),
        tensor("i", 4, 3, kind=np.int8),
        numpy_helper.from_array(np.int8(0), "zi"),
        numpy_helper.from_array(np.float32(0.1), "sx"),
        numpy_helper.from_array(np.uint8(3), "zx"),
    ]
    outside = tensor("w", 4, 4)
    outside.ClearField("raw_data")
    outside.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "8"), ("length", "64")):
        outside.external_data.add(key=key, value=value)
    function = helper.make_function(
        "my", "f", ["a"], ["b"], [node("Relu", "a", "b")], [helper.make_opsetid("", 21)]
    )
    branch = helper.make_graph(
        [node("Relu", "x", "t")], "b", [], [helper.make_empty_tensor_value_info("t")]
    )
    calls = [
        helper.make_node("f", ["x"], ["h"], domain="my"),
        node("ReduceMax", "h", "m", keepdims=0),
        node("Cast", "m", "c", to=TensorProto.BOOL),
        node("If", "c", "i", then_branch=branch, else_branch=branch),
        node("MatMul", "i w", "y"),
    ]
    mine = {"functions": [function], "opsets": [helper.make_opsetid("my", 1)]}
    return {
        "loop": model(loop, weights, [1, 4, 8]),
        "conv": model(conv, own, ["n", 1, 8, 8]),
        "int8": model(quantised, scales, [1, 4]),
        "outside": model(calls, [outside], [1, 4], **mine),
    }


def _tflite() -> dict[str, bytes]:
    golden = TESTS / "golden" / "tflite"
    kinds = ("attention-int8", "lstm-int8", "small-int8", "small-float16", "gru-dynamic")
    made = {name: (golden / f"{name}.tflite").read_bytes() for name in kinds}
    _helpers()
    from tflite_helpers import G, O, T, model

    tensors = [T("x", (1, 6)), T("w", (4, 6), data=[1.0] * 24), T("y", (1, 4))]
    graph = G(tensors, [O("FULLY_CONNECTED", ["x", "w", None], ["y"])], ["x"], ["y"])
    return made | {"dense": model(graph), "behind": model(graph, outside=True)}


def _network() -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    from keras_helpers import chain, conv_block, layer, ones

    block, weights = conv_block("c", (1, 2), 3)
    layers = [
        layer("InputLayer", "in", batch_input_shape=[None, 8, 8, 1]),
        *block,
        layer("MaxPooling2D", "p", pool_size=[2, 2], strides=[2, 2], padding="valid"),
        layer("Flatten", "f"),
        layer("Dense", "d", units=3, activation="softmax"),
    ]
    weights = {"in": {}, **weights, "p": {}, "f": {}}
    weights["d"] = {"kernel": ones(32, 3), "bias": ones(3)}
    return chain(layers), weights


def _h5() -> dict[str, bytes]:
    import h5py

    _helpers()
    from keras_helpers import ones, save_h5

    config, weights = _network()
    made: dict[str, bytes] = {}
    for name, tree in (("model", config), ("weights", None)):
        path = save_h5(Path("m.h5"), weights, tree, optimizer=4)
        made[name] = path.read_bytes()
        path.unlink()
    data = io.BytesIO()
    with h5py.File(data, "w", libver="latest") as file:  # another superblock, other headers
        group = file.create_group("layers/d/vars")
        group.create_dataset("0", data=ones(4, 3))
        group.create_dataset("1", data=ones(3))
    packed = io.BytesIO()
    with h5py.File(packed, "w") as file:
        group = file.create_group("layers/d/vars")
        group.create_dataset("0", data=ones(4, 3), chunks=(2, 3), compression="gzip")
    return made | {"latest": data.getvalue(), "bad-packed": packed.getvalue()}


def _keras() -> dict[str, bytes]:
    _helpers()
    from keras_helpers import layer, numbered, ones, sequential

    config = sequential(
        [
            layer("InputLayer", "in", batch_shape=[None, 6]),
            layer("Dense", "d", units=3, activation="relu"),
            layer("Dense", "e", units=2, activation="softmax"),
        ]
    )
    weights = numbered({"layers/dense": [ones(6, 3), ones(3)], "layers/dense_1": [ones(3, 2)]})
    members = {
        "metadata.json": b'{"keras_version": "3.3.3"}',
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": weights,
    }
    return {"stored": zipped(members), "deflated": zipped(members, deflate=True)}


def _script() -> dict[str, bytes]:
    import torch
    from torch import nn

    data = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch is leaving TorchScript
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), data)  # type: ignore[no-untyped-call]
    return {"bad-linear": data.getvalue()}


def _texts() -> tuple[bytes, bytes]:
    _helpers()
    from packages import FORMS, meta_lines, output_text

    meta = "\n".join(meta_lines(2023, LABEL)) + "\n"
    return meta.encode(), output_text(FORMS[2023]).encode()


def _package() -> dict[str, bytes]:
    meta, output = _texts()
    from packages import FORMS

    model = _own()["conv"]
    home = f"task1/{LABEL}/"
    members = {f"{home}{LABEL}.meta.yaml": meta, f"{home}model.pt": model}
    members |= {f"{home}{LABEL}.{end}": output for end in FORMS[2023].outputs}
    return {"stored": zipped(members), "deflated": zipped(members, deflate=True)}


def _meta() -> dict[str, bytes]:
    return {"meta": _texts()[0]}


def _output() -> dict[str, bytes]:
    return {"output": _texts()[1]}


# format -> what makes its files, and its share of all mutations
FORMATS: dict[str, tuple[Callable[[], dict[str, bytes]], int]] = {
    "own": (_own, 12),
    "state": (_states, 12),
    "pt2": (_exported, 12),
    "safetensors": (_safetensors, 8),
    "onnx": (_onnx, 14),
    "tflite": (_tflite, 14),
    "h5": (_h5, 12),
    "keras": (_keras, 6),
    "torchscript": (_script, 2),
    "package": (_package, 4),
    "meta": (_meta, 2),
    "output": (_output, 2),
}


def build(folder: Path, formats: list[str] | None = None) -> Path:
    """Writes the corpus: one folder a format. What is there already stays."""
    before = Path.cwd()
    scratch = folder / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    os.chdir(scratch)
    try:
        for name in formats or FORMATS:
            if (folder / name).is_dir():
                continue
            made = FORMATS[name][0]()
            (folder / name).mkdir()
            for key, data in made.items():
                (folder / name / key).write_bytes(data)
    finally:
        os.chdir(before)
    return folder


def read_corpus(folder: Path, format_name: str) -> dict[str, bytes]:
    """The files of one format by name, always in the same order.

    Those named "bad-..." are refused as they are: a poisoned pickle, code, a packed dataset.
    """
    return {path.name: path.read_bytes() for path in sorted((folder / format_name).iterdir())}
