"""8-bit integers: after training (`quantize_static`) or by training (`prepare_qat`).

Both end in a `QuantizedNetwork`: integer weights and biases, grids of the activations, a float twin
whose weights lie on those grids, and the ONNX file in which the same integers stand.
"""

from compressor.methods.quant.config import INTEGER_OPERATORS, QatInt8, StaticInt8
from compressor.methods.quant.integers import Activation, IntegerBias, IntegerWeight
from compressor.methods.quant.network import QuantizedNetwork, Simulation
from compressor.methods.quant.qat import QatNetwork, finish_qat, prepare_qat
from compressor.methods.quant.restore import restore
from compressor.methods.quant.sqnr import measure_sqnr, worst
from compressor.methods.quant.static import quantize_static

__all__ = [
    "INTEGER_OPERATORS",
    "Activation",
    "IntegerBias",
    "IntegerWeight",
    "QatInt8",
    "QatNetwork",
    "QuantizedNetwork",
    "Simulation",
    "StaticInt8",
    "finish_qat",
    "measure_sqnr",
    "prepare_qat",
    "quantize_static",
    "restore",
    "worst",
]
