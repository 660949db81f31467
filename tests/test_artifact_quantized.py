"""Model files of formats 2 and 3: the layers' integers, equal in file, export and audit."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from compressor.artifact import Artifact, from_model, from_quantized, load, save
from compressor.errors import ArtifactError, UsageError
from compressor.methods import Slimming, slim
from compressor.methods.batchnorm import reestimate
from compressor.methods.quant import QuantizedNetwork, StaticInt8, quantize_static, restore

ARGS: dict[str, Any] = {"mels": 16, "frames": 16, "blocks": (1, 1, 1, 1)}


def float_artifact(name: str = "seresnet18", *, pruned: bool = False) -> tuple[Artifact, Tensor]:
    entry = zoo.entry(name)
    args = ARGS if name == "seresnet18" else {"mels": 32, "frames": 32}
    sizes = (args["mels"], args["frames"])
    shape = (entry.input_shape[0], *(sizes if entry.layout == "CFT" else sizes[::-1]))
    torch.manual_seed(0)
    model = zoo.build(name, 3, **args)
    x = torch.randn(6, *shape)
    reestimate(model, [x])
    if pruned:
        ignored = tuple(n for n in entry.ignored_layers if _has(model, n))
        model = slim(model.eval(), x, Slimming(0.5), ignored=ignored).model
    artifact = from_model(
        model,
        arch=name,
        arch_args=args,
        num_classes=3,
        classes=("a", "b", "c"),
        input_shape=shape,
        layout=entry.layout,
        front_end={"name": "x"},
        standardizer={},
        history=({"step": "train"},),
        metrics={"test": {"accuracy": 0.5}},
    )
    return artifact, x


def _has(model: nn.Module, name: str) -> bool:
    return name in dict(model.named_modules())


def quantized(
    name: str = "seresnet18", *, pruned: bool = False, config: StaticInt8 | None = None
) -> tuple[Artifact, QuantizedNetwork, Tensor]:
    artifact, x = float_artifact(name, pruned=pruned)
    network = quantize_static(artifact.build(), x, [x], config)
    return from_quantized(network, artifact), network, x


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("name", ["seresnet18", "dsmn_seg", "sepcnn_coordatt"])
def test_round_trip(name: str, pruned: bool, tmp_path: Path) -> None:
    """Integers, scales, ONNX bytes and outputs come back; the bytes are what is deployed."""
    artifact, network, x = quantized(name, pruned=pruned)
    path = tmp_path / "int8.pt"
    save(artifact, path)
    again = load(path)
    assert (again.format_version, again.dtype) == (2, "int8")
    for layer, weight in network.weights.items():
        stored = again.state_dict[f"{layer}.weight"]
        assert stored.dtype == torch.int8
        assert torch.equal(stored, weight.values)
    for layer, bias in network.biases.items():
        assert again.state_dict[f"{layer}.bias"].dtype == torch.int32
        assert torch.equal(again.state_dict[f"{layer}.bias"], bias.values)
    model = again.build()
    with torch.no_grad():
        assert torch.equal(model(x), network.model(x))
        assert torch.equal(restore(again).simulate(x), network.simulate(x))
    assert restore(again).to_onnx() == network.to_onnx()
    assert restore(again).nbytes == network.nbytes
    assert again.history == ({"step": "train"},)
    assert again.metrics == {"test": {"accuracy": 0.5}}
    second = tmp_path / "again.pt"
    save(again, second)
    assert second.read_bytes() == path.read_bytes()


def test_bytes_by_hand() -> None:
    """1 byte for each weight of convolutions and linear layers, 4 for each bias behind folding."""
    artifact, network, _ = quantized()
    weights = biases = 0
    for layer in network.model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            weights += layer.weight.numel()
            biases += 0 if layer.bias is None else layer.bias.numel()
    stored = sum(t.numel() * t.element_size() for t in artifact.state_dict.values())
    assert network.nbytes == weights + 4 * biases == stored


def test_float_leftovers_keep_four_bytes() -> None:
    artifact, network, _ = quantized("sepcnn_coordatt")
    assert artifact.state_dict["bn0.weight"].dtype == torch.float32  # acts on mel bands: not folded
    kept, less, _ = quantized(config=StaticInt8(keep_float=("fc",)))
    assert kept.state_dict["fc.weight"].dtype == torch.float32
    whole = quantized()[1]
    assert less.nbytes - whole.nbytes == 3 * kept.state_dict["fc.weight"].numel()
    assert kept.build().fc.weight.dtype == torch.float32
    assert network.nbytes > 0


def test_bfloat16_and_older_files(tmp_path: Path) -> None:
    artifact, x = float_artifact()
    half = from_model(
        artifact.build(),
        arch=artifact.arch,
        arch_args=artifact.arch_args,
        num_classes=3,
        classes=(),
        input_shape=artifact.input_shape,
        layout="CFT",
        front_end={},
        standardizer={},
        dtype="bfloat16",
    )
    path = tmp_path / "half.pt"
    save(half, path)
    again = load(path)
    assert (again.dtype, again.format_version) == ("bfloat16", 1)
    assert again.state_dict["fc.weight"].element_size() == 2
    with torch.no_grad():
        assert torch.isfinite(again.build()(x)).all()
    # a file from before there was the field: the same record without it
    save(artifact, path)
    record = torch.load(path, weights_only=True)
    from compressor.artifact import _checksum

    old = {k: v for k, v in record.items() if k not in ("quantization", "checksum")}
    old["checksum"] = _checksum(old)
    torch.save(old, path)
    assert load(path).quantization == {}
    assert load(path).dtype == "float32"


def _changed(artifact: Artifact, **changes: Any) -> Artifact:
    record = {**artifact.quantization, **changes}
    return Artifact(**{**vars(artifact), "quantization": record})


def test_records_that_do_not_fit_are_refused() -> None:
    artifact, _, _ = quantized()
    record = artifact.quantization
    with pytest.raises(ArtifactError, match=r"layer 'nothing' is said to be folded"):
        _changed(artifact, folded=["nothing"]).build()
    with pytest.raises(ArtifactError, match=r"stem\.1"):
        _changed(artifact, folded=[]).build()
    few = {**record["weights"], "fc": {"scale": [1.0, 2.0], "zero_point": 0, "bits": 8}}
    with pytest.raises(ArtifactError, match=r"'fc\.weight' has 2 scales for 3 outputs"):
        _changed(artifact, weights=few).build()
    none = {**record["weights"], "gone": {"scale": [1.0], "zero_point": 0, "bits": 8}}
    with pytest.raises(ArtifactError, match=r"'gone\.weight' has integer scales, but is not"):
        _changed(artifact, weights=none).build()
    bare = {**record["weights"], "fc": {}}
    with pytest.raises(ArtifactError, match="cannot be rebuilt"):
        _changed(artifact, weights=bare).build()
    ranges = {k: v for k, v in record["activations"].items() if k != "stem.2"}
    with pytest.raises(ArtifactError, match=r"no activation range for layer 'stem\.2'"):
        restore(_changed(artifact, activations=ranges))
    lost = {k: v for k, v in record.items() if k != "biases"}
    with pytest.raises(ArtifactError, match="damaged: KeyError 'biases'"):
        restore(Artifact(**{**vars(artifact), "quantization": lost}))
    with pytest.raises(UsageError, match="is stored as float32; quantise it first"):
        restore(float_artifact()[0])


def test_flipped_bits_are_found(tmp_path: Path) -> None:
    artifact, network, _ = quantized()
    path = tmp_path / "int8.pt"
    save(artifact, path)
    content = path.read_bytes()
    draw = random.Random(0)
    found = 0
    for _ in range(40):
        broken = bytearray(content)
        broken[draw.randrange(len(broken))] ^= 1 << draw.randrange(8)
        path.write_bytes(broken)
        try:
            same = load(path)
        except ArtifactError:
            found += 1
            continue
        for layer, weight in network.weights.items():
            assert torch.equal(same.state_dict[f"{layer}.weight"], weight.values)
    assert found > 10


NARROW = StaticInt8(weight_bits=4)
MIXED = StaticInt8(weight_bits=6, mixed={"fc": 3}, keep_float=("stem.0",))
PLACED = StaticInt8(float_compute=("layers.0",), mixed={"layers.1.conv1": 4}, per_channel=False)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("seresnet18", None),
        ("dsmn_seg", None),
        ("sepcnn_coordatt", None),
        ("seresnet18", NARROW),
        ("dsmn_seg", NARROW),
        ("seresnet18", MIXED),
        ("seresnet18", PLACED),
    ],
)
def test_audit_counts_what_is_deployed(
    name: str, config: StaticInt8 | None, tmp_path: Path
) -> None:
    """One figure from three sides: the network's own, the model file's, the exported file's."""
    import compressor
    from compressor.export.quantized import write_qdq

    artifact, network, _ = quantized(name, config=config)
    save(artifact, tmp_path / "int8.pt")
    write_qdq(artifact, tmp_path / "int8.onnx")
    own = dict(network.model.named_parameters())
    zeros = sum(int((artifact.state_dict[n] == 0).sum()) for n in own)
    by_dtype = None
    for file in ("int8.pt", "int8.onnx"):
        found = compressor.audit(tmp_path / file)
        assert found.param_bytes == network.nbytes, file
        assert found.params == sum(p.numel() for p in own.values()), file
        assert found.params - found.nonzero_params == zeros, file
        assert by_dtype in (None, found.bytes_by_dtype), file
        assert found.deployed_bytes is None, file  # nothing is stored wider than it is deployed
        by_dtype = found.bytes_by_dtype
    more = compressor.audit(tmp_path / "int8.onnx").scale_bytes - network.scale_bytes
    # averages over windows or one axis have ones with a scale and zero point
    assert more == 0 if name == "seresnet18" else 0 < more <= 100 and more % 5 == 0
    assert by_dtype is not None
    assert ("int4" in by_dtype) == (config is not None)


def test_four_bits_by_hand() -> None:
    """0x1f: -1 below, 1 above; the last half stays empty."""
    from compressor import nibbles

    values = torch.tensor([[-1, 1, -8], [7, 0, -3]], dtype=torch.int8)
    assert nibbles.packed(values).tolist() == [0x1F, 0x78, 0xD0]
    odd = values.reshape(-1)[:5]
    assert nibbles.packed(odd).tolist() == [0x1F, 0x78, 0x00]
    for given in (values, odd):
        again = nibbles.unpacked({"w": nibbles.packed(given)}, {"w": tuple(given.shape)})["w"]
        assert again.dtype == torch.int8
        assert torch.equal(again, given)


def test_narrow_weights_come_back_and_older_files_are_read(tmp_path: Path) -> None:
    import compressor
    from compressor.artifact import _checksum

    artifact, network, x = quantized(config=NARROW)
    path, old, again = (tmp_path / name for name in ("new.pt", "old.pt", "again.pt"))
    save(artifact, path)
    record = torch.load(path, weights_only=True)
    assert record["format_version"] == load(path).format_version == 3
    stored = record["state_dict"]["fc.weight"]
    assert (stored.dtype, tuple(stored.shape)) == (torch.uint8, (3 * 32 // 2,))
    assert record["packed"]["fc.weight"] == (3, 32)
    assert torch.equal(restore(load(path)).simulate(x), network.simulate(x))
    # a file from before numbers were packed: the same, each in a byte of its own
    del record["packed"], record["checksum"]
    record |= {"format_version": 2, "state_dict": dict(artifact.state_dict)}
    torch.save({**record, "checksum": _checksum(record)}, old)
    assert restore(load(old)).to_onnx() == network.to_onnx()
    counted = compressor.audit(old)
    assert counted.deployed_bytes == network.nbytes < counted.param_bytes
    save(load(old), again)
    assert compressor.audit(again).param_bytes == network.nbytes
    # eight bits stay readable by versions that know format 2 alone
    save(quantized()[0], again)
    assert torch.load(again, weights_only=True)["format_version"] == 2


def test_packed_weights_that_lie_are_refused(tmp_path: Path) -> None:
    import compressor
    from compressor.artifact import _checksum
    from compressor.errors import ModelFileError

    path = tmp_path / "bad.pt"
    save(quantized(config=NARROW)[0], path)
    record = torch.load(path, weights_only=True)
    del record["checksum"]
    packed, state = record["packed"], record["state_dict"]
    odd = {**state, "fc.weight": state["fc.weight"] | 0xF0}
    bad: list[tuple[dict[str, Any], str]] = [
        ({"packed": {**packed, "fc.weight": (3, 400)}}, "fc.weight is said to hold"),
        ({"packed": {**packed, "fc.weight": (3, -32)}}, "a shape that is none"),
        ({"packed": {**packed, "fc.weight": "x"}}, "a shape that is none"),
        ({"packed": {**packed, "gone": (3, 32)}}, "gone is said to hold"),
        ({"packed": {**packed, "fc.bias": (3,)}}, "fc.bias is said to hold"),
        ({"packed": [1]}, "no table of shapes"),
        ({"packed": {}}, "contradicts itself"),
        ({"packed": {**packed, "fc.weight": (95,)}, "state_dict": odd}, "contradicts itself"),
    ]
    for change, message in bad:
        changed = {**record, **change}
        torch.save({**changed, "checksum": _checksum(changed)}, path)
        with pytest.raises(ModelFileError, match=message):
            compressor.audit(path)
        with pytest.raises(ArtifactError):
            load(path).build()
