"""The rest of `structures`: quantised networks of every library, containers, two baselines.

Quantised weights count at their stored width; scales and zero points are no parameters.
"""

from __future__ import annotations

from typing import Any

import torch
from structures import Built, filled, structure
from torch import Tensor, nn

# Conv2d(2, 3, 3) on 2 x 5 x 5 (3 x 3 positions), ReLU, Flatten, Linear(27, 4); both with biases,
# which quantisers store apart.
CONV, LINEAR, BIASES = 3 * 2 * 9, 27 * 4, 3 + 4
MACS, PARAMS = 9 * CONV + LINEAR, CONV + LINEAR + BIASES
INT8 = {"float32": 4 * BIASES, "int8": CONV + LINEAR}


def network() -> nn.Sequential:
    """The network that every library quantises."""
    layers = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)
    net: nn.Sequential = filled(nn.Sequential(*layers))
    return net


def example() -> tuple[Tensor, ...]:
    """Its input."""
    return (torch.randn(1, 2, 5, 5),)


@structure("static int8 (torch.ao)", macs=MACS, params=PARAMS, stored=INT8)
def _static() -> Built:
    from torch.ao import quantization as tq

    model: Any = nn.Sequential(tq.QuantStub(), *network(), tq.DeQuantStub()).eval()
    model.qconfig = tq.get_default_qconfig("fbgemm")
    prepared = tq.prepare(model)
    prepared(*example())
    return tq.convert(prepared), example()


@structure(
    "dynamic int8 Linear (torch.ao)",
    macs=3 * 24,
    params=24 + 4,
    stored={"float32": 16, "int8": 24},
)
def _dynamic() -> Built:
    from torch.ao import quantization as tq

    layers = filled(nn.Sequential(nn.Linear(6, 4)))
    return tq.quantize_dynamic(layers, {nn.Linear}), (torch.randn(3, 6),)


# The float weights that the int8 ones were made of stay behind and are read by nothing.
@structure("int8 by PT2E", macs=MACS, params=PARAMS, stored=INT8, buffers=4 * (CONV + LINEAR))
def _pt2e() -> Built:
    from torchao.quantization.pt2e import allow_exported_model_train_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    quantizer = x86.X86InductorQuantizer()
    quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
    prepared = prepare_pt2e(torch.export.export(network(), example()).module(), quantizer)
    prepared(*example())
    # most counters call eval(), which an exported network refuses without this
    return allow_exported_model_train_eval(convert_pt2e(prepared)), example()


def _torchao(config: Any) -> Built:
    from torchao.quantization import quantize_

    model = filled(nn.Sequential(nn.Linear(64, 32, bias=False)))
    quantize_(model, config)
    return model, (torch.randn(2, 64),)


@structure("int8 weights (torchao)", macs=2 * 2048, params=2048, stored={"int8": 2048})
def _torchao_int8() -> Built:
    from torchao.quantization import Int8WeightOnlyConfig

    return _torchao(Int8WeightOnlyConfig())


# This layout keeps each 4-bit number in a byte of its own: stored 2,048 B, deployed 1,024 B.
@structure("int4 weights (torchao)", macs=2 * 2048, params=2048, stored={"int8": 2048})
def _torchao_int4() -> Built:
    from torchao.quantization import IntxWeightOnlyConfig

    return _torchao(IntxWeightOnlyConfig(weight_dtype=torch.int4))


@structure("quantisation-aware training (Brevitas)", macs=MACS, params=CONV + LINEAR)
def _brevitas() -> Built:  # float32 as stored, no biases
    import brevitas.nn as qnn

    layers = (
        qnn.QuantConv2d(2, 3, 3, bias=False, weight_bit_width=8),
        qnn.QuantReLU(bit_width=8),
        nn.Flatten(),
        qnn.QuantLinear(27, 4, bias=False, weight_bit_width=8),
    )
    return nn.Sequential(*layers).eval(), example()


@structure("TorchScript", macs=MACS, params=PARAMS)
def _script() -> Built:
    return torch.jit.script(network()), example()


@structure("ExportedProgram", macs=MACS, params=PARAMS)
def _exported() -> Built:
    return torch.export.export(network(), example()), example()


def _zoo(name: str, *shape: int) -> Built:
    import zoo

    return filled(zoo.build(name)), (torch.randn(shape),)


# 7 x 7 convolutions 1 -> 16 -> 16 on 40 x 51 and 16 -> 32 on 8 x 10, Linear 64 -> 100 -> 10.
BASELINE = 2040 * 16 * 49 + 2040 * 16 * 16 * 49 + 80 * 32 * 16 * 49 + 6400 + 1000
# Weights, a bias each, BatchNorm 2 x 64 channels; statistics of 64 channels and three counters.
BASELINE_PARAMS = (784 + 16) + (12_544 + 16) + (25_088 + 32) + 6500 + 1010 + 2 * 64


@structure("DCASE 2022 baseline", macs=BASELINE, params=BASELINE_PARAMS, buffers=4 * 2 * 64 + 3 * 8)
def _baseline_2022() -> Built:
    return _zoo("dcase2022_baseline", 1, 1, 40, 51)


# Positions after each stride: 128 x 33, 64 x 17 = 1,088, 64 x 9 = 576, 32 x 9 = 288. A block is
# expand, depthwise 3 x 3, project; the third and fourth have the stride in the middle.
NARROW = 32 * 64 + 64 * 9 + 64 * 32
CPMOBILE = (
    (128 * 33 * 8 * 9 + 1088 * 32 * 8 * 9)
    + 2 * 1088 * NARROW
    + (1088 * 32 * 64 + 576 * (64 * 9 + 64 * 32))
    + (576 * 32 * 64 + 288 * (64 * 9 + 64 * 56))
    + 288 * (56 * 120 + 120 * 9 + 120 * 56)
    + 288 * (56 * 120 + 120 * 9 + 120 * 104)
    + 288 * 104 * 10
)
NORMED = (8 + 32) + 3 * (64 + 64 + 32) + (64 + 64 + 56) + (120 + 120 + 56) + (120 + 120 + 104) + 10
CPMOBILE_PARAMS = (
    (72 + 2304)
    + 3 * NARROW
    + (2048 + 576 + 64 * 56)
    + (2 * 6720 + 1080)
    + (6720 + 1080 + 120 * 104)
    + 1040
    + 2 * NORMED
)


# 21 BatchNorm layers: two statistics a channel, and a counter of 8 bytes each.
@structure(
    "DCASE 2024 baseline",
    macs=CPMOBILE,
    params=CPMOBILE_PARAMS,
    buffers=4 * 2 * NORMED + 21 * 8,
)
def _baseline_2024() -> Built:
    return _zoo("dcase2024_baseline", 1, 1, 256, 65)
