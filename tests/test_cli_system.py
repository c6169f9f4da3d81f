"""The command line where the system is short of something, and where it is interrupted before it has begun."""

import signal
import subprocess
import sys

import pytest
from commands import PROGRAM, plain_environment

SEARCH = ["search", "--task", "planted-20", "--agent", "random", "--evaluations", "12", "--run", "run"]
INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == wanted:
            os.kill(os.getpid(), signal.SIGINT)

wanted = sys.argv.pop(1)
sys.argv[0] = "ads-gym"
sys.meta_path.insert(0, Interrupt())
from ads_gym.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("module", ["gymnasium", "numpy", "typer", "ads_gym.cli.search"])
def test_ctrl_c_during_the_imports_ends_the_program_as_any_other(tmp_path, module):
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, *SEARCH]
    done = subprocess.run(command, cwd=tmp_path, env=plain_environment(), check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("module", ["ads_gym.records", "ads_gym.agents.random_search", "matplotlib"])
def test_ctrl_c_during_the_imports_of_a_command_says_so(tmp_path, module):
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, *SEARCH]
    done = subprocess.run(command, cwd=tmp_path, env=plain_environment(), check=False, capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.splitlines()[-1].startswith("Interrupted. Nothing recorded is lost"), done.stderr
    assert "Traceback" not in done.stderr


def test_importing_the_package_leaves_ctrl_c_alone(tmp_path):
    code = "import signal, ads_gym; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    for argv in ("[]", "['ads-gym-server.py']", "['bin/ads-gym']"):
        program = f"import sys; sys.argv = {argv}; "
        if "bin" in argv:  # in a thread, where no handler may be set
            program += f"import threading; t = threading.Thread(target=lambda: exec({code!r})); t.start(); t.join(); "
        subprocess.run([sys.executable, "-c", program + code], cwd=tmp_path, check=True)


def test_help_loads_nothing_heavy(tmp_path):
    code = (
        "import atexit, sys; from ads_gym.cli import main\n"
        "heavy = {'torch', 'pydantic', 'scipy', 'matplotlib', 'stable_baselines3'}\n"
        "atexit.register(lambda: print('loaded:', *heavy & set(sys.modules)))\n"
        "main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "train-supernet" in done.stdout and done.stdout.splitlines()[-1].strip() == "loaded:"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="a limit on open files")
def test_without_free_file_handles(tmp_path):
    """The program itself cannot begin with 5; with 16 it has enough."""
    told = set()
    for handles in (6, 7, 8):
        command = f"ulimit -n {handles}; exec {PROGRAM} {' '.join(SEARCH)}"
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=plain_environment(), check=False, capture_output=True, text=True
        )
        if done.returncode:
            assert done.returncode == 2 and "permission" not in done.stderr and "Traceback" not in done.stderr
            told.add(done.stderr.splitlines()[-1].startswith("Error: "))
            assert "too many open files (see `ulimit -n`)" in done.stderr
    assert told == {True}
    subprocess.run([PROGRAM, *SEARCH], cwd=tmp_path, check=True, capture_output=True)
