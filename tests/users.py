"""Running a program as an ordinary user would: root is stopped by no mode, and always has a home folder."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

NAMELESS = 54321  # a user id that no account has, as containers give it
_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 24, 1, 2  # <linux/prctl.h>, <linux/capability.h>

is_root = hasattr(os, "geteuid") and os.geteuid() == 0
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="takes root's rights away as Linux does")
needs_root = pytest.mark.skipif(not is_root, reason="only root can start a process as another user")


def obey_modes() -> None:
    """In a child, before its program starts: modes of files count for root too."""
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if is_root and ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError("the rights of root cannot be taken away here")


def be_nameless() -> None:
    """In a child, before its program starts: a user without a name, who may still read this Python."""
    os.setreuid(NAMELESS, 0)


def run_python(before: Callable[[], None], code: str, *arguments: object, cwd: Path, **environment: str):
    """Runs Python code in `cwd`, after `before`, without HOME and with no more of an environment than is given."""
    kept = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        preexec_fn=before,
        cwd=cwd,
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_program(before: Callable[[], None], *arguments: object, cwd: Path, **environment: str):
    """Runs `ads-gym` so."""
    return run_python(before, "from ads_gym.cli import main; main()", *arguments, cwd=cwd, **environment)
