"""What every test process begins with."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# One thread a process: the networks here are so small that more threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in its background with SIGINT ignored, and so would be whatever a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def forgotten_modules(request: pytest.FixtureRequest) -> Iterator[None]:
    """Forgets what a test imported from its own folder, for the next test may write a module of the same name."""
    yield
    folder = request.node.funcargs.get("tmp_path")
    if folder is not None:
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "/").is_relative_to(folder):
                del sys.modules[name]
