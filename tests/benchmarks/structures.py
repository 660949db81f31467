"""Network structures that complexity counters stumble over, each with its figures by hand.

    @structure("name", macs=..., params=...)    a builder that returns (network, inputs)

The figures are those of the strict convention: multiply-accumulates of products, no bias; every
stored parameter once. Layers have no bias unless the line says so, and no normalisation unless that
is the subject, so that a counter is judged by what it sees and not by whether it counts a bias.
All weights lie between 0.1 and 1: none is zero unless the structure is about zeros.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

__all__ = ["STRUCTURES", "Structure"]

Built = tuple[Any, tuple[Tensor, ...]]  # the network (any container) and its inputs


@dataclass(frozen=True)
class Structure:
    """One structure: `build` returns the network and its inputs; the rest are figures by hand.

    `stored` are the bytes of the parameters by number type, `buffers` the bytes beside them.
    """

    name: str
    build: Callable[[], Built]
    macs: int
    params: int
    nonzero: int
    stored: Mapping[str, int]
    buffers: int


STRUCTURES: list[Structure] = []


def structure(
    name: str,
    *,
    macs: int,
    params: int,
    nonzero: int | None = None,
    stored: Mapping[str, int] | None = None,
    buffers: int = 0,
) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Registers a builder; by default nothing is zero and everything is float32."""

    def register(build: Callable[[], Built]) -> Callable[[], Built]:
        @functools.wraps(build)
        def seeded() -> Built:
            torch.manual_seed(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # libraries warn of what torch deprecates
                return build()

        STRUCTURES.append(
            Structure(
                name,
                seeded,
                macs,
                params,
                params if nonzero is None else nonzero,
                {"float32": 4 * params} if stored is None else stored,
                buffers,
            )
        )
        return seeded

    return register


def filled(module: nn.Module) -> Any:
    """Sets every floating number to one between 0.1 and 1, and the network to eval mode."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1.0)
    return module.eval()


class Run(nn.Module):
    """A network whose forward is a function of itself: `Run(forward, name=module, ...)`."""

    def __init__(self, body: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.body = body
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            elif isinstance(part, nn.Parameter):
                self.register_parameter(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: Tensor, y: Tensor | None = None, z: Tensor | None = None) -> Any:
        given = [each for each in (y, z) if each is not None]
        return self.body(self, x, *given)


def parameter(*shape: int) -> nn.Parameter:
    """A bare parameter."""
    return nn.Parameter(torch.zeros(shape))


def plain(module: nn.Module, *shapes: tuple[int, ...]) -> Built:
    """A filled network and random inputs of these shapes.

    A lone layer goes into a Sequential: some counters look at the children of a network only.
    """
    net = module if isinstance(module, (Run, nn.Sequential)) else nn.Sequential(module)
    return filled(net), tuple(torch.randn(shape) for shape in shapes)


# -- convolutions -------------------------------------------------------------------------------


@structure("convolution with bias", macs=200 * 8 * 3 * 9, params=8 * 3 * 9 + 8)
def _conv() -> Built:
    return plain(nn.Conv2d(3, 8, 3, padding=1), (1, 3, 10, 20))  # 10 x 20 positions


@structure("groups", macs=64 * 16 * 2 * 9, params=16 * 2 * 9)
def _groups() -> Built:  # each output sees 8 / 4 = 2 inputs, at 8 x 8 positions
    return plain(nn.Conv2d(8, 16, 3, groups=4, bias=False), (1, 8, 10, 10))


@structure("dilation", macs=60 * 4 * 8 * 3, params=4 * 8 * 3)
def _dilation() -> Built:  # reach 2 x (3 - 1): 10 - 4 = 6 rows of 10
    return plain(nn.Conv2d(8, 4, (3, 1), dilation=(2, 1), bias=False), (1, 8, 10, 10))


@structure("stride", macs=25 * 4 * 8 * 9, params=4 * 8 * 9)
def _stride() -> Built:  # (10 + 2 - 3) // 2 + 1 = 5
    return plain(nn.Conv2d(8, 4, 3, stride=2, padding=1, bias=False), (1, 8, 10, 10))


@structure("depthwise separable", macs=35 * (6 * 9 + 6 * 12), params=6 * 9 + 6 * 12)
def _separable() -> Built:
    depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
    return plain(nn.Sequential(depthwise, nn.Conv2d(6, 12, 1, bias=False)), (1, 6, 5, 7))


@structure("transposed convolution", macs=25 * 4 * 3 * 9, params=4 * 3 * 9)
def _transposed() -> Built:  # each of the 5 x 5 *input* positions meets all 4 x 6/2 x 9 weights
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, bias=False)
    return plain(layer, (1, 4, 5, 5))


@structure("Conv1d", macs=16 * 4 * 6 * 5, params=4 * 6 * 5)
def _conv1d() -> Built:
    return plain(nn.Conv1d(4, 6, 5, bias=False), (1, 4, 20))


@structure("Conv + BatchNorm + ReLU", macs=36 * 72, params=72 + 8, buffers=16 + 16 + 8)
def _batchnorm() -> Built:  # 2 x 4 x 9 weights; mean, variance, an int64 counter
    layers = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()
    return plain(nn.Sequential(*layers), (1, 2, 8, 8))


@structure("the same, BatchNorm folded", macs=36 * 72, params=72 + 4)
def _folded() -> Built:  # the fold leaves a bias
    block = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)).eval()
    return plain(nn.utils.fusion.fuse_conv_bn_eval(block[0], block[1]), (1, 2, 8, 8))


class Stem(nn.Conv2d):
    """A convolution under another name."""


@structure("subclass of Conv2d", macs=9 * 72, params=72)
def _subclass() -> Built:
    return plain(Stem(2, 4, 3, bias=False), (1, 2, 5, 5))


@structure("F.conv2d with a bare parameter", macs=16 * 72, params=72)
def _bare() -> Built:
    net = Run(lambda self, x: F.conv2d(x, self.kernel), kernel=parameter(4, 2, 3, 3))
    return plain(net, (1, 2, 6, 6))


@structure("weight norm", macs=9 * 72, params=72 + 4)
def _weight_norm() -> Built:  # direction and magnitude
    layer = nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3, bias=False))
    return plain(layer, (1, 2, 5, 5))


# -- blocks -------------------------------------------------------------------------------------


@structure("squeeze-and-excitation", macs=36 * 16 + 8 + 8, params=16 + 8 + 8)
def _excite() -> Built:
    def body(self: Any, x: Tensor) -> Tensor:
        x = self.conv(x)
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3))))))
        return x * gate[:, :, None, None]

    down, up = nn.Linear(4, 2, bias=False), nn.Linear(2, 4, bias=False)
    return plain(Run(body, conv=nn.Conv2d(4, 4, 1, bias=False), down=down, up=up), (1, 4, 6, 6))


@structure("residual add", macs=81 * 81, params=81)
def _residual() -> Built:
    net = Run(lambda self, x: x + self.conv(x), conv=nn.Conv2d(3, 3, 3, padding=1, bias=False))
    return plain(net, (1, 3, 9, 9))


@structure("adaptive-pool head", macs=30, params=30)
def _head() -> Built:
    layers = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10, bias=False)
    return plain(nn.Sequential(*layers), (1, 3, 9, 9))


@structure("Linear on 3-D input", macs=14 * 24, params=24)
def _linear() -> Built:
    return plain(nn.Linear(6, 4, bias=False), (2, 7, 6))


@structure("Linear on a folded batch", macs=14 * 24, params=24)
def _linear_folded() -> Built:
    def body(self: Any, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.reshape(-1, 6))
        return out.reshape(2, 7, 4)

    return plain(Run(body, layer=nn.Linear(6, 4, bias=False)), (2, 7, 6))


@structure("ConvNeXt block (Linear on NHWC)", macs=15 * 144 * 2, params=288)
def _convnext() -> Built:  # 5 x 3 positions, 6 -> 24 -> 6
    def body(self: Any, x: Tensor) -> Tensor:
        y: Tensor = self.project(F.gelu(self.expand(x.permute(0, 2, 3, 1))))
        return x + y.permute(0, 3, 1, 2)

    expand, project = nn.Linear(6, 24, bias=False), nn.Linear(24, 6, bias=False)
    return plain(Run(body, expand=expand, project=project), (1, 6, 5, 3))


# -- recurrent layers and attention -------------------------------------------------------------

# Gates x hidden x (inputs + hidden); the second layer sees both directions.
GRU = 2 * (12 * (5 + 4)) + 2 * (12 * (8 + 4))


@structure("GRU, 2 layers, both directions", macs=7 * GRU, params=GRU)
def _gru() -> Built:
    return plain(nn.GRU(5, 4, num_layers=2, bidirectional=True, bias=False), (7, 1, 5))


@structure("LSTM", macs=14 * 16 * 9, params=16 * 9)
def _lstm() -> Built:  # 7 steps of 2 sequences, 4 gates x 4 x (5 + 4)
    return plain(nn.LSTM(5, 4, batch_first=True, bias=False), (2, 7, 5))


@structure("GRUCell in a loop", macs=6 * 12 * 9, params=12 * 9)
def _cell() -> Built:
    def body(self: Any, x: Tensor) -> Tensor:
        h = x.new_zeros(1, 4)
        for frame in x:
            h = self.cell(frame, h)
        return h

    return plain(Run(body, cell=nn.GRUCell(5, 4, bias=False)), (6, 1, 5))


# 6 tokens of 8: in 8 x 24, scores and sums of 2 heads 6 x 6 x 4 each, out 8 x 8.
ATTENTION = 6 * 8 * 24 + 2 * 2 * (36 * 4) + 6 * 64


@structure("MultiheadAttention, eval", macs=ATTENTION, params=192 + 64)
def _attention() -> Built:
    net = Run(
        lambda self, x: self.attention(x, x, x)[0],
        attention=nn.MultiheadAttention(8, 2, batch_first=True, bias=False),
    )
    return plain(net, (1, 6, 8))


@structure(
    "TransformerEncoderLayer, eval, biases",  # the layer norms and the fast path need them
    macs=ATTENTION + 6 * 128 * 2,
    params=192 + 24 + 64 + 8 + 2 * 128 + 16 + 8 + 2 * 16,
)
def _encoder() -> Built:
    return plain(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (1, 6, 8))


@structure("scaled_dot_product_attention", macs=2 * 35 * (4 + 3), params=0, stored={})
def _sdpa() -> Built:  # 2 heads, 5 queries x 7 keys, keys of 4 and values of 3
    net = Run(lambda _, q, k, v: F.scaled_dot_product_attention(q, k, v))
    return plain(net, (1, 2, 5, 4), (1, 2, 7, 4), (1, 2, 7, 3))


# -- products outside layers --------------------------------------------------------------------


@structure("matmul with a parameter", macs=8 * 30, params=30)
def _matmul() -> Built:
    return plain(Run(lambda self, x: x @ self.a, a=parameter(5, 6)), (2, 4, 5))


@structure("einsum", macs=8 * 18, params=18)
def _einsum() -> Built:
    net = Run(lambda self, x: torch.einsum("nti,oi->nto", x, self.b), b=parameter(3, 6))
    return plain(net, (2, 4, 6))


@structure("bmm of two activations", macs=2 * 3 * 4 * 3, params=0, stored={})
def _bmm() -> Built:
    return plain(Run(lambda _, x: torch.bmm(x.transpose(1, 2), x)), (2, 4, 3))


@structure("mel matrix in a buffer", macs=8 * 330 + 8 * 40, params=40, buffers=4 * 330)
def _mel() -> Built:
    def body(self: Any, x: Tensor) -> Tensor:
        out: Tensor = self.conv(torch.log(self.mel @ x.abs() + 1e-5))
        return out

    net = Run(body, mel=torch.zeros(10, 33), conv=nn.Conv1d(10, 4, 1, bias=False))
    return plain(net, (1, 33, 8))


@structure("two inputs", macs=15 + 20, params=35)
def _two() -> Built:
    first, second = nn.Linear(3, 5, bias=False), nn.Linear(4, 5, bias=False)
    net = Run(lambda self, x, y: self.a(x) + self.b(y), a=first, b=second)
    return plain(net, (1, 3), (1, 4))


# -- how weights are held -----------------------------------------------------------------------


@structure("tied weights", macs=72, params=36)
def _tied() -> Built:  # 6 x 6, stored once, used twice
    first, second = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
    second.weight = first.weight
    return plain(nn.Sequential(first, second), (1, 6))


@structure("module called twice", macs=32, params=16)
def _twice() -> Built:
    net = Run(lambda self, x: self.layer(self.layer(x)), layer=nn.Linear(4, 4, bias=False))
    return plain(net, (1, 4))


@structure("module never called", macs=16, params=16 + 135)
def _never() -> Built:  # 3 x 5 x 9 weights that nothing reads
    used, spare = nn.Linear(4, 4, bias=False), nn.Conv2d(3, 5, 3, bias=False)
    return plain(Run(lambda self, x: self.used(x), used=used, spare=spare), (1, 4))


@structure("weights with zeros", macs=16, params=16, nonzero=7)
def _zeros() -> Built:  # two rows of 4 and one minus zero
    net, inputs = plain(nn.Linear(4, 4, bias=False), (1, 4))
    with torch.no_grad():
        net[0].weight[:2] = 0.0
        net[0].weight[2, 0] = -0.0
    return net, inputs


@structure("pruning mask not baked in", macs=9 * 72, params=72, nonzero=54, buffers=288)
def _masked() -> Built:
    net, inputs = plain(nn.Conv2d(2, 4, 3, bias=False), (1, 2, 5, 5))
    prune.l1_unstructured(net[0], "weight", amount=18)
    return net, inputs


@structure("sparse CSR weight", macs=32, params=16, nonzero=4, stored={"float32": 16}, buffers=72)
def _sparse() -> Built:  # stored: 4 values; 5 row pointers and 4 columns of 8 bytes
    net = Run(lambda self, x: (self.weight @ x.t()).t())
    net.weight = nn.Parameter(torch.eye(4).to_sparse_csr(), requires_grad=False)
    return net.eval(), (torch.randn(2, 4),)


@structure("float16", macs=9 * 72, params=72, stored={"float16": 144})
def _half() -> Built:
    net, inputs = plain(nn.Conv2d(2, 4, 3, bias=False).half(), (1, 2, 5, 5))
    return net, (inputs[0].half(),)


@structure("float16 and float32 mixed", macs=24, params=24, stored={"float16": 32, "float32": 32})
def _mixed() -> Built:  # 4 x 4 and 4 x 2
    first, second = nn.Linear(4, 4, bias=False).half(), nn.Linear(4, 2, bias=False)
    net, _ = plain(Run(lambda self, x: self.b(self.a(x).float()), a=first, b=second))
    return net, (torch.randn(1, 4).half(),)
