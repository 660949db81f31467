"""The audited model and the process are left exactly as they were, also after a crash."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

import compressor
from compressor.errors import MeasureError, UsageError


class Nasty(nn.Module):
    """Does in its forward what networks should not do, and can be told to fail."""

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.scale = nn.Parameter(torch.ones(2, 1, 1))
        self.seen: list[Tensor] = []
        self.table = {"calls": 0}
        self.fail = False
        self.hooked = 0
        self.conv.register_forward_hook(self._hook)

    def _hook(self, *_: Any) -> None:
        self.hooked += 1

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.seen.append(x)
        self.table["calls"] += 1
        self.last = x
        with torch.no_grad():
            self.scale.mul_(3)
        y = self.conv(x)
        y = nn.functional.batch_norm(
            y, self.norm.running_mean, self.norm.running_var, training=True
        )
        y = y * self.scale + torch.rand(1) + random.random() + float(np.random.rand())
        if self.fail:
            raise RuntimeError("broken on purpose")
        out: Tensor = self.drop(self.norm(y))
        return out


def state(model: Nasty) -> dict[str, Any]:
    return {
        "tensors": {k: v.clone() for k, v in model.state_dict().items()},
        "keys": list(model.state_dict()),
        "training": [m.training for m in model.modules()],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()],
        "lists": (list(model.seen), dict(model.table), model.hooked),
        "global hooks": (
            len(torch_module._global_forward_hooks),
            len(torch_module._global_forward_pre_hooks),
        ),
        "torch rng": torch.get_rng_state().tolist(),
        "python rng": random.getstate(),
        "numpy rng": np.random.get_state()[1].tolist(),  # type: ignore[index,union-attr]
        "switches": (
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.cuda.flash_sdp_enabled(),  # type: ignore[no-untyped-call]
            torch.backends.cuda.mem_efficient_sdp_enabled(),  # type: ignore[no-untyped-call]
            torch.backends.cuda.math_sdp_enabled(),  # type: ignore[no-untyped-call]
            torch.is_grad_enabled(),
            torch.get_num_threads(),
        ),
    }


def same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, old in before.items():
        if key == "tensors":
            assert all(torch.equal(old[name], after[key][name]) for name in old), key
        else:
            assert old == after[key], key


@pytest.mark.parametrize("fail", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_everything_is_put_back(fail: bool, training: bool) -> None:
    model = Nasty().train(training)
    model.norm.eval()  # a frozen BatchNorm inside a training network
    model.fail = fail
    before = state(model)
    if fail:
        with pytest.raises(MeasureError, match="broken on purpose"):
            compressor.audit(model, input_shape=(1, 1, 8, 8))
    else:
        assert compressor.audit(model, input_shape=(1, 1, 8, 8)).macs == 36 * 18
    same(before, state(model))
    assert not hasattr(model, "last")


def test_two_counts_agree_after_a_crash() -> None:
    model = Nasty()
    first = compressor.audit(model, input_shape=(1, 1, 8, 8))
    model.fail = True
    with pytest.raises(MeasureError):
        compressor.audit(model, input_shape=(1, 1, 8, 8))
    model.fail = False
    assert compressor.audit(model, input_shape=(1, 1, 8, 8)) == first


def test_gradients_and_the_given_input_stay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True))
    x = torch.randn(1, 1, 8, 8, requires_grad=True)
    model(x).sum().backward()
    grads = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    copy = x.detach().clone()
    compressor.audit(model, inputs=x)
    assert torch.equal(x.detach(), copy)
    assert all(
        torch.equal(p.grad, g)
        for p, g in zip(model.parameters(), grads, strict=True)
        if p.grad is not None
    )


def test_a_wrong_shape_is_one_clear_error() -> None:
    with pytest.raises(
        MeasureError, match=r"Conv2d cannot run on an input of shape \(1, 3, 8, 8\)"
    ):
        compressor.audit(nn.Conv2d(1, 2, 3), input_shape=(1, 3, 8, 8))


@pytest.mark.parametrize(
    "shape",
    [
        (),
        (1, 0, 8),
        ("a", 2),
        [(1, 2), (1, -1)],
        (1, 1, float("nan"), 5),
        5,
        "1,1,8,8",
        True,
    ],
)
def test_not_a_shape(shape: Any) -> None:
    with pytest.raises(UsageError, match="input shape"):
        compressor.audit(nn.Conv2d(1, 2, 3), input_shape=shape)


def test_an_input_beyond_the_memory() -> None:
    with pytest.raises(MeasureError, match=r"1,000,000,000,000,000,000 numbers do not fit"):
        compressor.audit(nn.Conv2d(1, 2, 3), input_shape=(1, 1, 10**9, 10**9))


def test_inputs_without_a_tensor() -> None:
    with pytest.raises(MeasureError, match="Conv2d cannot run on inputs without a tensor: Type"):
        compressor.audit(nn.Conv2d(1, 2, 3), inputs=5)


def test_missing_shape_and_wrong_argument() -> None:
    with pytest.raises(UsageError, match="give inputs="):
        compressor.audit(nn.Conv2d(1, 2, 3))
    with pytest.raises(UsageError, match="found dict"):
        compressor.audit({})
    with pytest.raises(UsageError, match="only a state dict in a file"):
        compressor.audit(nn.Linear(1, 1), input_shape=(1, 1), arch="seresnet18")
    with pytest.raises(
        UsageError, match="unknown counting convention 'stict'; did you mean strict"
    ):
        compressor.audit(nn.Linear(1, 1), input_shape=(1, 1), convention="stict")


def test_dynamo_is_not_imported() -> None:
    code = (
        "import sys, torch, compressor\n"
        "r = compressor.audit(torch.nn.Conv2d(1, 2, 3), input_shape=(1, 1, 8, 8))\n"
        "assert r.macs == 648\n"
        "print([m for m in ('torch._dynamo', 'sympy') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
