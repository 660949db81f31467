from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.special import log_softmax

from compressor.errors import ShapeError
from compressor.training.metrics import PROBABILITY_FLOOR, Evaluation, score

CLASSES = ("bus", "park", "tram")


def logits_for(probabilities: list[list[float]]) -> np.ndarray:
    return np.log(np.array(probabilities)).astype(np.float32)


def test_hand_worked_numbers() -> None:
    # bus: 2 of 3 right, park: 1 of 1, tram: 0 of 0
    logits = logits_for([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.2, 0.4, 0.4001], [0.1, 0.5, 0.4]])
    result = score(logits, np.array([0, 0, 0, 1]), CLASSES, ("a", "a", "s1", "s1"))
    bus = -(math.log(0.5) + math.log(0.8) + math.log(0.2 / 1.0001)) / 3
    park = -math.log(0.5)
    assert result.n == 4
    assert result.accuracy == pytest.approx(3 / 4)
    assert result.class_accuracy == pytest.approx({"bus": 2 / 3, "park": 1.0})
    assert result.macro_accuracy == pytest.approx((2 / 3 + 1) / 2)  # tram is absent: left out
    assert result.class_log_loss == pytest.approx({"bus": bus, "park": park}, rel=1e-6)
    assert result.log_loss == pytest.approx((bus + park) / 2, rel=1e-6)
    assert result.confusion == ((2, 0, 1), (0, 1, 0), (0, 0, 0))
    assert result.chance == pytest.approx(3 / 4)  # always "bus"
    assert result.standard_error == pytest.approx(math.sqrt(3 / 4 * 1 / 4 / 4))
    assert result.device_accuracy == pytest.approx({"a": 1.0, "s1": 0.5})
    assert result.device_log_loss["a"] == pytest.approx(-(math.log(0.5) + math.log(0.8)) / 2)


def test_balanced_part_has_equal_macro_and_plain_accuracy() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), 20)
    result = score(rng.normal(size=(100, 5)), labels, tuple("abcde"))
    assert result.macro_accuracy == pytest.approx(result.accuracy)


def test_against_scipy_on_random_unbalanced_logits() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice(4, size=500, p=[0.6, 0.25, 0.1, 0.05])
    logits = (4 * rng.normal(size=(500, 4))).astype(np.float32)
    devices = np.array(["a", "b", "c"])[rng.integers(0, 3, 500)]
    result = score(logits, labels, tuple("wxyz"), tuple(devices))
    losses = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(500), labels]
    right = logits.argmax(1) == labels
    assert result.log_loss == pytest.approx(np.mean([losses[labels == k].mean() for k in range(4)]))
    assert result.macro_accuracy == pytest.approx(
        np.mean([right[labels == k].mean() for k in range(4)])
    )
    for name in "abc":
        m = devices == name
        kept = [k for k in range(4) if (m & (labels == k)).any()]
        assert result.device_log_loss[name] == pytest.approx(
            np.mean([losses[m & (labels == k)].mean() for k in kept])
        )
    table = np.array(result.confusion)
    assert table.sum() == 500
    assert np.trace(table) / 500 == pytest.approx(result.accuracy)
    assert table.sum(axis=1).tolist() == np.bincount(labels).tolist()


def test_confident_error_costs_a_finite_loss() -> None:
    result = score(np.array([[1000.0, 0.0]]), np.array([1]), ("x", "y"))
    assert result.log_loss == pytest.approx(-math.log(PROBABILITY_FLOOR))
    assert result.log_loss == pytest.approx(34.5388, abs=1e-4)


def test_device_keys_only_where_devices_are_given() -> None:
    logits, labels = np.eye(3), np.arange(3)
    assert score(logits, labels, CLASSES).device_accuracy == {}
    assert score(logits, labels, CLASSES, ("", "", "")).device_log_loss == {}
    assert set(score(logits, labels, CLASSES, ("a", "", "b")).device_accuracy) == {"a", "b"}


def test_record_survives_json() -> None:
    rng = np.random.default_rng(2)
    result = score(rng.normal(size=(30, 3)), np.arange(30) % 3, CLASSES, ("a", "b") * 15)
    assert Evaluation.from_dict(json.loads(json.dumps(result.to_dict()))) == result


@pytest.mark.parametrize(
    ("logits", "devices", "message"),
    [
        (np.zeros((2, 4)), (), r"\(2, 4\) for 2 labels and 3 classes"),
        (np.zeros((3, 3)), (), "for 2 labels"),
        (np.zeros((2, 3)), ("a",), "1 devices for 2 clips"),
    ],
)
def test_sizes_that_do_not_fit(logits: np.ndarray, devices: tuple[str, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        score(logits, np.array([0, 1]), CLASSES, devices)


def test_no_clips() -> None:
    with pytest.raises(ShapeError, match="at least one clip"):
        score(np.zeros((0, 3)), np.zeros(0, dtype=np.int64), CLASSES)
