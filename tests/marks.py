"""Marks that many tests use."""

from functools import partial

import pytest

slow = partial(pytest.param, marks=pytest.mark.slow)  # parameters of a case that only `-m slow` tries
