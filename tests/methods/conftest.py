"""Networks of the zoo, small and with every BatchNorm value random, for the pruning tests."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))  # tests import by name
from small_networks import Small, small


@pytest.fixture(scope="session")
def make_small() -> Callable[[str], Small]:
    return small
