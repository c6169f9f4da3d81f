"""What tests of runs share."""

import pytest

from ads_gym.runs import comparison


@pytest.fixture
def few_random_masks(monkeypatch):
    """The closing table has few of them: repairing 30 networks of digits takes seconds."""
    monkeypatch.setattr(comparison, "RANDOM_MASKS", 4)
