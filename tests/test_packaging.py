"""The wheel: what is in it, and that it works outside the clone, agents included."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from test_front_door import check_front_door

from ads_gym.agents.base import Needs
from ads_gym.agents.rankings import Ranking
from ads_gym.agents.registry import find_agent

ROOT = Path(__file__).parents[1]
SOURCES = ("ads_gym", "agents", "pyproject.toml", "setup.cfg", "README.md", "LICENSE")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_every_package_is_listed():
    """setuptools is given a list, and what is not on it is not in the wheel."""
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "ads_gym").rglob("*.py")}
    folders |= {"ads_gym" / path.parent.relative_to(ROOT) for path in (ROOT / "agents").rglob("*.py")}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {".".join(folder.parts) for folder in folders}


def test_every_registered_agent_loads():
    entries = importlib.metadata.entry_points(group="ads_gym.agents")
    assert set(PROJECT["project"]["entry-points"]["ads_gym.agents"]) <= entries.names
    assert all(callable(entry.load()) for entry in entries)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, because building leaves folders behind."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", folder]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (found,) = (folder / "dist").iterdir()
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """A virtual environment with the wheel; its dependencies are the ones installed here, our editable self is not."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    python = folder / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, timeout=300)
    (packages,) = folder.glob("lib/python*/site-packages")
    here = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "dependencies.pth").write_text("\n".join(here))  # their own .pth files, ours among them, are not read
    return python


@pytest.fixture
def run(python, tmp_path):
    """Runs something in that environment, in an empty folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTHON"))}

    def run(*arguments):
        command = [python.with_name(arguments[0]), *arguments[1:]]
        elsewhere = {"cwd": tmp_path, "env": clean | {"ADS_GYM_HOME": str(tmp_path / "home")}}
        done = subprocess.run(command, **elsewhere, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.slow
def test_what_is_in_the_wheel(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    files = (*(ROOT / "ads_gym" / "weights").glob("digits.*"), *(ROOT / "ads_gym" / "reports" / "templates").iterdir())
    for path in (*(ROOT / "ads_gym").rglob("*.py"), *files):
        assert str(path.relative_to(ROOT)) in names
    for path in (ROOT / "agents").glob("*.py"):
        assert f"ads_gym/agents/{path.name}" in names
    assert "ads_gym/py.typed" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ads_gym"}  # nothing else is installed


@pytest.mark.slow
def test_it_is_imported_from_where_it_was_installed(run, python):
    code = "import ads_gym, ads_gym.agents.random_search as a; print(ads_gym.__file__, a.__file__, sep='\\n')"
    for line in run("python", "-c", code).splitlines():
        assert line.startswith(str(python.parents[1]))


@pytest.mark.slow
def test_a_misspelt_name_in_front_of_the_installed_wheel(python, tmp_path):
    check_front_door(tmp_path, "--python-executable", python)


@pytest.mark.slow
def test_every_command_works_outside_the_clone(run, tmp_path):
    assert run("ads-gym", "--version").split()[1] == PROJECT["project"]["version"]
    assert "built in" in run("ads-gym", "tasks")
    assert all(name in run("ads-gym", "agents") for name in PROJECT["project"]["entry-points"]["ads_gym.agents"])
    found = run("ads-gym", "search", "--evaluations", "4", "--device", "cpu", "--run", "r")
    assert "4 evaluations" in found and "its sparse network" in found
    assert "relative cost" in run("ads-gym", "show", "r")
    assert "report.html" in run("ads-gym", "report", "r", "--device", "cpu")
    assert "TEST was read 2 times" in run("ads-gym", "retrain", "r", "--epochs", "1", "--seeds", "1", "--device", "cpu")
    code = "import ads_gym, torch; print(*ads_gym.load('r/best')(torch.zeros(1, 1, 8, 8)).shape)"
    assert run("python", "-c", code) == "1 10\n"


@pytest.mark.slow
@pytest.mark.parametrize("agent", PROJECT["project"]["entry-points"]["ads_gym.agents"])
def test_every_agent_plays_outside_the_clone(run, agent):
    found = find_agent(agent)
    needs_network = found.needs is not Needs.NOTHING
    task = "digits-table" if needs_network else "planted-20"
    told = run("ads-gym", "search", "--task", task, "--agent", agent, "--evaluations", "40")
    if isinstance(found.make, type) and issubclass(found.make, Ranking):
        assert "17 evaluations" in told  # a ranking has no more masks
    else:
        assert "40 evaluations" in told or ("evaluations (and what costs as much as" in told and needs_network)


@pytest.mark.slow
def test_own_images_outside_the_clone(run, tmp_path):
    code = (
        "import numpy as np; i = np.random.default_rng(0).integers(0, 255, (40, 8, 8)); "
        "np.savez('mine.npz', images=i.astype('uint8'), labels=np.arange(40) % 2)"
    )
    run("python", "-c", code)
    options = ("--blocks", "2,2", "--growth", "2", "--stem", "4", "--epochs", "1", "--batch-size", "8")
    assert "ads-gym search --task mine" in run("ads-gym", "train-supernet", "--data", "mine.npz", *options)
    assert (tmp_path / "home/tasks/mine/task.json").is_file()
