"""Quantised networks of every library: stored width, deployed width, scales apart, by hand."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from exported_helpers import export
from torch import Tensor, nn

import compressor
from compressor.audit import AuditResult

# each library warns on import or use of what torch deprecates; none of it is about our figures
pytestmark = [
    pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning"),
    pytest.mark.filterwarnings("ignore:Please use quant_min and quant_max:UserWarning"),
    pytest.mark.filterwarnings("ignore:must run observer before calling:UserWarning"),
    pytest.mark.filterwarnings("ignore:Defining your `__torch_function__`:DeprecationWarning"),
]

# Conv2d(2, 3, 3) on 2 x 5 x 5, ReLU, Flatten, Linear(27, 4)
CONV, LINEAR = 3 * 2 * 9, 27 * 4
BIASES = 3 + 4
MACS = 9 * CONV + LINEAR


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)).eval()


def audit(model: Any, **options: Any) -> AuditResult:
    options = options or {"input_shape": (1, 2, 5, 5)}
    result = compressor.audit(model, **options)
    assert sum(layer.macs for layer in result.layers) == result.macs
    assert sum(layer.params for layer in result.layers) == result.params
    assert sum(layer.param_bytes for layer in result.layers) == result.param_bytes
    assert sum(result.bytes_by_dtype.values()) == result.param_bytes
    assert sum(result.deployed_bytes_by_dtype.values()) == (result.deployed_bytes or 0)
    assert result.statuses["macs"] == "exact"
    return result


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """The libraries log what they miss (CUDA kernels) through the root logger."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def test_static_int8_of_torch_ao() -> None:
    from torch.ao import quantization as tq

    model = nn.Sequential(tq.QuantStub(), *net(), tq.DeQuantStub()).eval()
    model.qconfig = tq.get_default_qconfig("fbgemm")  # type: ignore[assignment]
    prepared = tq.prepare(model)
    prepared(torch.randn(1, 2, 5, 5))
    result = audit(tq.convert(prepared))
    assert (result.macs, result.params) == (MACS, CONV + LINEAR + BIASES)
    assert result.bytes_by_dtype == {"float32": 4 * BIASES, "int8": CONV + LINEAR}
    # fbgemm: float64 scales and int64 zero points, one an output channel
    assert result.scale_bytes >= (3 + 4) * 16
    assert "3.weight.scale" not in result.details.get("buffers", {})


def test_dynamic_int8_of_torch_ao() -> None:
    from torch.ao import quantization as tq

    dynamic = tq.quantize_dynamic(nn.Sequential(nn.Linear(6, 4)), {nn.Linear})
    result = audit(dynamic, input_shape=(3, 6))
    assert (result.macs, result.params) == (3 * 24, 28)
    assert result.bytes_by_dtype == {"float32": 16, "int8": 24}
    assert result.scale_bytes == 8 + 8  # one scale and zero point for the whole weight
    assert result.deployed_bytes is None


def test_quantisation_aware_training_of_torch_ao() -> None:
    from torch.ao import quantization as tq

    model = net().train()
    model.qconfig = tq.get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
    prepared = tq.prepare_qat(model)
    prepared(torch.randn(4, 2, 5, 5))
    before = {key: value.clone() for key, value in prepared.state_dict().items()}
    result = audit(prepared)
    assert (result.macs, result.params) == (MACS, CONV + LINEAR + BIASES)
    assert result.bytes_by_dtype == {"float32": 4 * (CONV + LINEAR + BIASES)}  # as stored
    assert result.deployed_bytes_by_dtype == {"float32": 4 * BIASES, "int8": CONV + LINEAR}
    assert result.details["stored_wider"]["0.weight"] == {
        "stored_bytes": 4 * CONV,
        "deployed_bits": 8,
    }
    assert result.buffer_bytes == 0  # observers and ranges are scales
    assert any("as deployed" in note for note in result.notes)
    for key, value in prepared.state_dict().items():  # observers saw nothing
        assert torch.equal(value, before[key]), key


def pt2e() -> Any:
    example = (torch.randn(1, 2, 5, 5),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.fx and torchao: deprecated parts of their own
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        prepared = prepare_pt2e(torch.export.export(net(), example).module(), quantizer)
        prepared(*example)
        return convert_pt2e(prepared)


def check_pt2e(result: AuditResult) -> None:
    assert (result.macs, result.params) == (MACS, CONV + LINEAR + BIASES)
    assert result.bytes_by_dtype == {"float32": 4 * BIASES, "int8": CONV + LINEAR}
    # float32 scales and int64 zero points of the weights, one an output channel
    assert result.scale_bytes == (3 + 4) * (4 + 8)
    # the float weights that the int8 ones were made of stay behind, read by nothing
    assert result.details["float_masters"] == {
        "0.weight": "_frozen_param0",
        "3.weight": "_frozen_param1",
    }
    assert result.buffer_bytes == 4 * (CONV + LINEAR)
    assert result.status == "exact"


def test_pt2e_int8_live_and_as_a_file(tmp_path: Path) -> None:
    model = pt2e()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: eval() of an exported module does little
        live = audit(model, inputs=(torch.randn(1, 2, 5, 5),))
        program = torch.export.export(model, (torch.randn(1, 2, 5, 5),))
        torch.export.save(program, tmp_path / "q.pt2")
    check_pt2e(live)
    check_pt2e(audit(tmp_path / "q.pt2", convention="strict"))
    check_pt2e(audit(program, convention="strict"))


@pytest.mark.parametrize("activations", [False, True])
def test_torchao_int8_weights(activations: bool) -> None:
    from torchao import quantization as q

    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16)).eval()
    with torch.no_grad():
        model[0].weight[:, :5] = 0  # type: ignore[index]
    config = q.Int8DynamicActivationInt8WeightConfig if activations else q.Int8WeightOnlyConfig
    q.quantize_(model, config())
    numbers = 64 * 32 + 32 * 16
    keys, hooks = list(model.state_dict()), len(model._forward_hooks)
    result = audit(model, input_shape=(2, 64))
    assert (result.macs, result.params) == (2 * numbers, numbers + 32 + 16)
    assert result.bytes_by_dtype == {"float32": 4 * (32 + 16), "int8": numbers}
    quantised = [model[0].weight.qdata, model[2].weight.qdata]  # type: ignore[union-attr]
    zeros = sum(int((data == 0).sum()) for data in quantised)  # type: ignore[operator, union-attr]
    assert zeros >= 5 * 32
    assert result.nonzero_params == result.params - zeros
    # a float32 scale and an int8 zero point for each output
    assert result.scale_bytes == (32 + 16) * (4 + 1)
    assert (result.buffer_bytes, result.deployed_bytes) == (0, None)
    assert (list(model.state_dict()), len(model._forward_hooks)) == (keys, hooks)


def test_torchao_int4_weights() -> None:
    from torchao import quantization as q

    model = nn.Sequential(nn.Linear(64, 32)).eval()
    q.quantize_(model, q.IntxWeightOnlyConfig(weight_dtype=torch.int4))
    result = audit(model, input_shape=(2, 64))
    assert (result.macs, result.params) == (2 * 64 * 32, 64 * 32 + 32)
    # this layout keeps each 4-bit number in a byte of its own
    assert result.bytes_by_dtype == {"float32": 128, "int8": 64 * 32}
    assert result.deployed_bytes_by_dtype == {"float32": 128, "int4": 64 * 32 // 2}


class PackedInt4(nn.Module):
    """A weight of 4-bit numbers in torch's own packed layout, two in a byte."""

    packed: Tensor
    scales: Tensor

    def __init__(self) -> None:
        super().__init__()
        numbers = torch.randint(0, 16, (32, 64), dtype=torch.int32)
        packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1)
        self.packed = nn.Parameter(packed, requires_grad=False)
        self.register_buffer("scales", torch.ones(2, 32, 2, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self.packed, 32, self.scales)
        return out


def test_packed_int4_weights() -> None:
    result = audit(PackedInt4(), inputs=torch.randn(3, 64).bfloat16())
    assert result.macs == 3 * 64 * 32
    assert result.bytes_by_dtype == {"uint8": 64 * 32 // 2}
    assert result.deployed_bytes is None


def test_brevitas_stored_and_deployed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # brevitas: deprecated parts of torch
        import brevitas.nn as qnn
        from brevitas.quant import Int32Bias

        torch.manual_seed(0)
        model = nn.Sequential(
            qnn.QuantConv2d(2, 3, 3, weight_bit_width=8),
            qnn.QuantReLU(bit_width=8, return_quant_tensor=True),
            nn.Flatten(),
            qnn.QuantLinear(27, 4, bias=True, weight_bit_width=4, bias_quant=Int32Bias),
        ).eval()
        keys = list(model.state_dict())
        result = audit(model)
    assert (result.macs, result.params) == (MACS, CONV + LINEAR + BIASES)
    assert result.bytes_by_dtype == {"float32": 4 * (CONV + LINEAR + BIASES)}
    assert result.deployed_bytes_by_dtype == {
        "float32": 4 * 3,  # the bias of the convolution has no quantiser
        "int32": 4 * 4,
        "int4": LINEAR // 2,
        "int8": CONV,
    }
    assert result.deployed_bytes == 12 + 16 + 54 + 54
    assert result.buffer_bytes == 0
    # the learned scale of the activation is a parameter for torch, a scale for us
    assert (
        "1.act_quant.fused_activation_quant_proxy.tensor_quant.scaling_impl.value"
        in (result.details["scales"])
    )
    assert list(model.state_dict()) == keys


def test_fake_quantisation_in_a_graph(tmp_path: Path) -> None:
    class Fake(nn.Module):
        scale: Tensor
        zero: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 6))
            self.register_buffer("scale", torch.ones(4))
            self.register_buffer("zero", torch.zeros(4, dtype=torch.int32))

        def forward(self, x: Tensor) -> Tensor:
            weight = torch.fake_quantize_per_channel_affine(
                self.weight, self.scale, self.zero, 0, -8, 7
            )
            return nn.functional.linear(x, weight)

    path = export(Fake(), tmp_path / "f.pt2", torch.randn(2, 6))
    for result in (audit(Fake(), input_shape=(2, 6)), audit(path, convention="strict")):
        assert (result.macs, result.params, result.param_bytes) == (2 * 24, 24, 96)
        assert result.deployed_bytes_by_dtype == {"int4": 12}  # -8 to 7: 4 bits
        assert (result.scale_bytes, result.buffer_bytes) == (4 * (4 + 4), 0)
