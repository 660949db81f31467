"""What a front-end's settings come from may be worded anew: runs and checkpoints stay valid."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from compressor.artifact import load
from compressor.audio.front_end import same_features
from compressor.audio.logmel import preset
from compressor.sweep import runner
from compressor.sweep.store import write_json
from zoo import entry

WEIGHTS = Path(__file__).resolve().parents[2] / "zoo/weights/seresnet18-synthetic.pt"


def test_only_the_source_may_differ() -> None:
    asked = preset("speakin2021").to_dict()
    assert same_features({**asked, "source": "worded anew"}, asked)
    assert not same_features({**asked, "n_mels": 41}, asked)
    assert not same_features({key: asked[key] for key in asked if key != "n_fft"}, asked)


@pytest.mark.parametrize("settings", [{"source": "worded before"}, {"n_mels": 64}, None])
def test_a_run_goes_on_under_its_own_words(tmp_path: Path, settings: dict[str, Any] | None) -> None:
    front_end = preset("speakin2021")
    asked = front_end.to_dict()
    if settings is not None:
        stored = {**asked, **settings}
        write_json(tmp_path / "run.json", {"settings": {"front_end": stored}})
    found = runner._front_end(tmp_path, cast(Any, SimpleNamespace(front_end=front_end)))
    assert found == ({**asked, **settings} if settings and "source" in settings else asked)


def test_the_shipped_network_has_the_front_end_of_its_entry() -> None:
    """Else the default sweep would train its dense network from the start."""
    stored = load(WEIGHTS).front_end
    front_end = preset(entry("seresnet18").front_end)
    rate = cast(int, stored["sample_rate_hz"])
    assert same_features(stored, front_end.at_rate(rate).to_dict())
