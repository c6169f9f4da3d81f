"""Whatever a user can get wrong: one clear line and exit code 2 from the command line, an AdsGymError in Python.

Each case is a sabotage of a working command: its arguments, or a file that it reads.
"""

import gc
import shutil
import subprocess

import numpy as np
import pytest
import torch
from commands import run_here
from sabotage import PLANTED, REAL, TRAIN, TRAIN_NEW, changed, save_images

import ads_gym
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.evaluators.store import EvaluationStore


@pytest.fixture(scope="session")
def working(tmp_path_factory):
    """Data, a task made of them, and runs on it and on a planted task, all in working order."""
    place = tmp_path_factory.mktemp("working")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("ADS_GYM_HOME", str(place / "home"))
        save_images(place / "mine.npz")
        (place / "home/tasks/lonely").mkdir(parents=True)
        for command in (TRAIN, REAL, PLANTED):
            with pytest.raises(SystemExit) as ended:
                ads_gym.cli.main(list(command))
            assert not ended.value.code
        with EvaluationStore("s.sqlite") as store:
            DenseNetSparsifyEnv(task="task", store=store).problem.score(np.ones((1, 2), bool))
    return place


@pytest.fixture
def place(working, tmp_path, monkeypatch):
    """A copy of it, to be spoilt."""
    place = tmp_path / "place"
    shutil.copytree(working, place)
    for path in (place / "task/task.json", place / "real/manifest.json"):  # where data and task are
        path.write_text(path.read_text().replace(str(working), str(place)))
    monkeypatch.chdir(place)
    monkeypatch.setenv("ADS_GYM_HOME", str(place / "home"))
    monkeypatch.setenv("ADS_GYM_DATA", str(place / "data"))
    return place


@pytest.fixture
def mounted(place):
    """Mounts something on ./mounted, and unmounts it at the end; skips where this user may not."""
    point = place / "mounted"
    point.mkdir()
    done = []

    def mount(*arguments):
        if not shutil.which("mount") or subprocess.run(["mount", *arguments, point], check=False).returncode:
            pytest.skip("this user may not mount file systems")
        done.append(point)
        return point

    yield mount
    gc.collect()  # tensors read from a file keep it mapped, and the place busy
    for mounted in done:
        subprocess.run(["umount", mounted], check=True)


@pytest.fixture
def interrupted_training(place, capsys, monkeypatch):
    """A command that was interrupted in its second epoch, and the checkpoint that it left."""
    command = changed(TRAIN_NEW, "--epochs", 2)
    steps, step = [], torch.optim.SGD.step

    def stop(self, *arguments):
        if len(steps) == 3:  # TRAIN has 36 images: two steps an epoch
            raise KeyboardInterrupt
        steps.append(step(self, *arguments))

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", stop)
        assert run_here(capsys, *command).code == 130
    (checkpoint,) = (place / "new").iterdir()
    return command, checkpoint
