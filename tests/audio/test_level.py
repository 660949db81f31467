from __future__ import annotations

import numpy as np
import pytest

from compressor.audio.level import SILENCE_DB, a_weighting_db, level_db


def test_a_curve_against_the_standards_table() -> None:
    """IEC 61672-1, table 3; its nominal 31.5, 63, 500 and 4000 Hz are exact powers of 10^(1/10)."""
    table = {31.62: -39.4, 63.10: -26.2, 100: -19.1, 501.2: -3.2, 1e3: 0.0, 3981: 1.0, 1e4: -2.5}
    weights = a_weighting_db(np.array(list(table), dtype=float))
    assert weights == pytest.approx(list(table.values()), abs=0.1)
    assert a_weighting_db(np.array([0.0]))[0] == -np.inf


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_sines(rate: int) -> None:
    t = np.arange(2 * rate) / rate
    full = np.sin(2 * np.pi * 1000 * t)
    assert level_db(full, rate) == pytest.approx(-3.01, abs=0.02)
    assert level_db(0.01 * full, rate) == pytest.approx(-43.01, abs=0.02)
    low = np.sin(2 * np.pi * 100 * t)
    assert level_db(low, rate) == pytest.approx(-3.01 - 19.1, abs=0.3)
    assert level_db(np.stack([full, 0 * full]), rate) == pytest.approx(-6.02, abs=0.02)


def test_the_loudest_tenth_of_a_second_counts() -> None:
    rate = 16_000
    noise = np.random.default_rng(0).standard_normal(rate)
    clip = np.concatenate([np.zeros(4 * rate), 0.1 * noise, np.zeros(4 * rate)])
    steady = np.tile(0.1 * noise, 9)
    assert level_db(clip, rate) == pytest.approx(level_db(steady, rate), abs=0.5)


def test_silence_and_clips_of_a_few_samples() -> None:
    assert level_db(np.zeros(8000), 8000) == SILENCE_DB
    assert level_db(1e-7 * np.ones(8000), 8000) == SILENCE_DB
    short = np.sin(2 * np.pi * 1000 * np.arange(400) / 8000)  # half a window
    assert -15 < level_db(short, 8000) < -3
    assert level_db(short[:1], 8000) == SILENCE_DB
