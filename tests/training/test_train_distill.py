"""Distillation: the loss by hand, the mixture, teachers that do not fit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from compressor.errors import ConfigError, ShapeError
from compressor.training import Teacher, TrainSettings, evaluate, fit
from compressor.training.distill import distillation_loss

Make = Callable[..., Any]
QUICK = TrainSettings(epochs=2, batch_size=16, validation_share=0.0, lr=0.01)


pytestmark = pytest.mark.usefixtures("one_thread")


def test_loss_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    # T = 1: teacher 3/4, 1/4; student 1/2, 1/2; 0.75 ln 1.5 + 0.25 ln 0.5
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(distillation_loss(student, teacher, 1.0)) == pytest.approx(expected)
    # T = 2: teacher sqrt(3) : 1, times T^2 = 4
    p = math.sqrt(3) / (1 + math.sqrt(3))
    expected = 4 * (p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p)))
    assert float(distillation_loss(student, teacher, 2.0)) == pytest.approx(expected)
    assert float(distillation_loss(teacher, teacher, 3.0)) == pytest.approx(0.0, abs=1e-7)


def test_gradient_keeps_its_size_over_temperatures() -> None:
    """For small logits the gradient is (student - teacher) / classes / N, whatever T."""
    student = torch.tensor([[0.02, -0.01, -0.01]], requires_grad=True)
    teacher = torch.tensor([[-0.01, 0.02, -0.01]])
    for temperature in (2.0, 8.0):
        student.grad = None
        distillation_loss(student, teacher, temperature).backward()
        expected = (student.detach() - teacher) / 3
        assert torch.allclose(student.grad, expected, atol=2e-4)


def test_mixture_of_labels_and_teacher() -> None:
    network = nn.Linear(2, 5)  # two outputs beyond the classes
    x = torch.randn(4, 2)
    teacher = Teacher(network.train(), temperature=3.0, weight=0.25)
    assert not teacher.model.training
    logits = torch.randn(4, 3)
    loss = teacher.mix(torch.tensor(2.0), logits, x)
    theirs = network(x)[:, :3].detach()
    assert float(loss) == pytest.approx(
        0.75 * 2.0 + 0.25 * float(distillation_loss(logits, theirs, 3.0))
    )


def test_bad_teachers_are_refused() -> None:
    for options, message in [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"temperature": math.nan}, "temperature is nan"),
        ({"weight": 1.5}, "distillation weight is 1.5"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Teacher(nn.Linear(2, 2), **options)
    x, loss = torch.randn(4, 2), torch.tensor(1.0)
    with pytest.raises(ShapeError, match="does not take inputs of shape"):
        Teacher(nn.Linear(3, 2)).mix(loss, torch.randn(4, 2), x)
    with pytest.raises(ShapeError, match="3 classes"):
        Teacher(nn.Linear(2, 2)).mix(loss, torch.randn(4, 3), x)


def test_a_student_learns_from_outputs_alone(
    make_part: Make, make_standardizer: Make, make_network: Make
) -> None:
    """With weight 1 the labels have no say: trained on labels of another order it still learns."""
    part, unseen = make_part(), make_part(seed=1)
    standardizer = make_standardizer(part)
    teacher, student = make_network(), make_network(seed=7)
    settings = TrainSettings(epochs=6, batch_size=16, lr=0.02, validation_share=0.0)
    fit(teacher, part, settings, standardizer=standardizer, device="cpu")
    before = [value.clone() for value in teacher.state_dict().values()]
    wrong = part.__class__(**{**part.__dict__, "y": (part.y + 1) % 3})
    fit(
        student,
        wrong,
        settings,
        standardizer=standardizer,
        device="cpu",
        teacher=Teacher(teacher, weight=1.0),
    )
    assert evaluate(student, unseen, standardizer=standardizer).accuracy > 0.9
    assert all(map(torch.equal, before, teacher.state_dict().values()))


def test_weight_zero_changes_nothing(
    make_part: Make, make_standardizer: Make, make_network: Make
) -> None:
    part = make_part(n=48)
    states = []
    for teacher in (None, Teacher(make_network(seed=3), weight=0.0)):
        network = make_network()
        fit(
            network,
            part,
            QUICK,
            standardizer=make_standardizer(part),
            device="cpu",
            teacher=teacher,
        )
        states.append([value.clone() for value in network.state_dict().values()])
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(*states, strict=True))
