"""Arguments of commands and of calls."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from commands import run_here, run_program
from sabotage import PLANTED, REAL, RETRAIN, TRAIN, TRAIN_NEW, changed, contents, is_one_clear_line

import ads_gym
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.errors import AdsGymError
from ads_gym.evaluators.store import EvaluationStore
from ads_gym.tasks import Task

ARGUMENTS = {
    "task": (changed(PLANTED, "--task", "planted-21"), ("planted-21", "Did you mean 'planted-20'")),
    "task not trained": (changed(PLANTED, "--task", "cifar10"), ("ads-gym train-supernet --task cifar10",)),
    "task folder": (changed(PLANTED, "--task", "nowhere/task"), ("nowhere/task", "train-supernet")),
    "agent": (changed(PLANTED, "--agent", "randon"), ("agent 'randon'", "Did you mean 'random'")),
    "agent module": (changed(PLANTED, "--agent", "nowhere:play"), ("nowhere:play", "no module")),
    "agent's name": (changed(PLANTED, "--agent", "json:dump_"), ("dump_", "Did you mean 'dump'")),
    "agent option": (
        changed(PLANTED, "--agent", "density", "--agent-option", "bach_size=4"),
        ("bach_size", "'batch_size'"),
    ),
    "agent option's form": (changed(PLANTED, "--agent-option", "batch"), ("key=value",)),
    "decision": (changed(PLANTED, "--agent", "recurrent", "--decision", "conection"), ("Did you mean 'connection'",)),
    "decision of an optimiser": (changed(PLANTED, "--decision", "layer"), ("random is an optimiser", "leave decision")),
    "scope": (changed(PLANTED, "--scope", "layer"), ("Did you mean 'layers'",)),
    "reward": (changed(PLANTED, "--reward", "acuracy"), ("Did you mean 'accuracy'",)),
    "no evaluations": (changed(PLANTED, "--evaluations", 0), ("evaluations", "got 0")),
    "negative evaluations": (changed(PLANTED, "--evaluations", -5), ("evaluations", "got -5")),
    "too many evaluations": (changed(PLANTED, "--evaluations", 10**12), ("evaluations", "got 1000000000000")),
    "seed": (changed(PLANTED, "--seed", -1), ("seed", "got -1")),
    "negative cost weight": (changed(PLANTED, "--cost-weight", -0.5), ("cost weight", "-0.5")),
    "large cost weight": (changed(PLANTED, "--cost-weight", 101), ("cost weight", "101")),
    "cost weight NaN": (changed(PLANTED, "--cost-weight", "nan"), ("cost weight", "nan")),
    "cost weight's name": (changed(PLANTED, "--cost-weight", "evn"), ("cost weight", "'even'")),
    "large limit": (changed(PLANTED, "--max-macs", 1.5), ("max_macs", "1.5")),
    "small limit": (changed(PLANTED, "--max-macs", 0.01), ("max_macs", "only the chain")),
    "limit NaN": (changed(PLANTED, "--max-macs", "nan"), ("max_macs", "nan")),
    "device": (changed(REAL, "--run", "new", "--device", "gpu"), ("'gpu'", "'cuda'")),
    "run of other settings": (changed(PLANTED, "--seed", 5), ("belongs to a run with", "seed 0 (here 5)")),
    "run of another task": (changed(PLANTED, "--run", "real"), ("belongs to a run with", "--run")),
    "run in a folder of other things": (changed(PLANTED, "--run", "task"), ("holds", "no run")),
    "run in a file": (changed(PLANTED, "--run", "mine.npz"), ("mine.npz",)),
    "show nothing": (("show", "nowhere.json"), ("nowhere.json",)),
    "show a folder": (("show", "task"), ("task/best.json",)),
    "export nothing": (("export", "nowhere"), ("nowhere.json",)),
    "export a folder": (("export", "task"), ("task/best.json",)),
    "export a planted run": (("export", "r"), ("no weights file", "best.safetensors")),
    "export's format": (("export", "real", "--format", "pyton"), ("Did you mean 'python'",)),
    "retrain nothing": (("retrain", "nowhere"), ("nowhere", "no run folder")),
    "retrain a planted run": (("retrain", "r"), ("planted-20", "no images and no network")),
    "retrain seeds": (changed(RETRAIN, "--seeds", 0), ("seeds", "got 0")),
    "retrain epochs": (changed(RETRAIN, "--epochs", 0), ("epochs", "got 0")),
    "retrain device": (changed(RETRAIN, "--device", "gpu"), ("'gpu'",)),
    "data set": (("train-supernet", "--task", "cifar11"), ("Did you mean 'cifar10'",)),
    "data set missing": (("train-supernet", "--task", "cifar10", "--epochs", "1"), ("data", "download=True")),
    "data missing": (changed(TRAIN_NEW, "--data", "nowhere.npz"), ("nowhere.npz",)),
    "data of no kind": (changed(TRAIN_NEW, "--data", "task/task.json"), ("task.json", ".npz")),
    "folder of no classes": (changed(TRAIN_NEW, "--data", "home/tasks"), ("one for each class",)),
    "blocks": (changed(TRAIN_NEW, "--blocks", "6;6"), ("--blocks", "'6;6'")),
    "no layers": (changed(TRAIN_NEW, "--blocks", "2,0"), ("blocks[1]", "got 0")),
    "growth": (changed(TRAIN_NEW, "--growth", 0), ("growth", "got 0")),
    "stem": (changed(TRAIN_NEW, "--stem", -4), ("stem_channels", "got -4")),
    "stem stride": (changed(TRAIN_NEW, "--stem-stride", 3), ("--stem-stride", "got 3")),
    "compression": (changed(TRAIN_NEW, "--compression", 1.5), ("compression", "1.5")),
    "images too small": (changed(TRAIN_NEW, "--blocks", "1,1,1,1,1"), ("8x8", "too small")),
    "size": (changed(TRAIN_NEW, "--size", 0), ("size", "got 0")),
    "too many images": (changed(TRAIN_NEW, "--valid", 59), ("images", "left")),
    "no images": (changed(TRAIN_NEW, "--train", 0), ("train", "got 0")),
    "epochs": (changed(TRAIN_NEW, "--epochs", 0), ("epochs", "got 0")),
    "batch size": (changed(TRAIN_NEW, "--batch-size", 1), ("batch_size", "got 1")),
    "batch larger than TRAIN": (changed(TRAIN_NEW, "--batch-size", 1000), ("fewer than one batch",)),
    "learning rate": (changed(TRAIN_NEW, "--learning-rate", -0.1), ("learning_rate", "-0.1")),
    "learning rate that ends in NaN": (changed(TRAIN_NEW, "--learning-rate", 1e30), ("lower learning rate",)),
    "shift": (changed(TRAIN_NEW, "--shift", -1), ("shift", "got -1")),
    "training seed": (changed(TRAIN_NEW, "--seed", -1), ("seed", "got -1")),
    "cost range": (changed(TRAIN_NEW, "--cost-range", 0.9, 0.5), ("LOW <= HIGH", "0.9 0.5")),
    "masks": (changed(TRAIN_NEW, "--cost-range", 0.5, 1, "--masks-per-step", 0), ("masks_per_step", "got 0")),
    "task that is there": (changed(TRAIN, "--growth", 3), ("other settings", "--replace")),
    "weights missing": (changed(TRAIN_NEW, "--weights", "no.pt"), ("no.pt",)),
    "training device": (changed(TRAIN_NEW, "--device", "tpu"), ("'tpu'",)),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(place, capsys, case):
    command, says = ARGUMENTS[case]
    before = contents(place)
    is_one_clear_line(run_here(capsys, *command), says)
    assert contents(place) == before  # nothing lost, nothing left behind


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize(
    "command",
    [changed(REAL, "--run", "new"), RETRAIN, TRAIN_NEW],
    ids=lambda command: command[0],
)
def test_cuda_where_there_is_none(place, capsys, command):
    is_one_clear_line(run_here(capsys, *changed(command, "--device", "cuda")), ("'cuda'", "--device cpu"))


@pytest.mark.parametrize("case", ["task", "images too small", "run of other settings"])
def test_the_program_itself(place, case):
    command, says = ARGUMENTS[case]
    is_one_clear_line(run_program(*command), says)


CONFIG = DenseNetConfig((5, 5), growth=4)
MADE = {"task": "planted-20"}
CONSTRUCTORS = {
    "observation": (lambda: gym.make("DenseNetSparsify-v0", observation="matrx", **MADE), ValueError, "'matrix'"),
    "decision": (lambda: gym.make("DenseNetSparsify-v0", decision="layers", **MADE), ValueError, "'layer'"),
    "scope": (lambda: gym.make("DenseNetSparsify-v0", scope="al", **MADE), ValueError, "'all'"),
    "reward": (lambda: gym.make("DenseNetSparsify-v0", reward="los", **MADE), ValueError, "'loss'"),
    "render mode": (lambda: DenseNetSparsifyEnv(render_mode="text", **MADE), ValueError, "render mode"),
    "evaluator": (lambda: DenseNetSparsifyEnv(evaluator="planted:linar:0", **MADE), ValueError, "'linear'"),
    "cost weight": (lambda: DenseNetSparsifyEnv(cost_weight=float("nan"), **MADE), ValueError, "nan"),
    "limit": (lambda: DenseNetSparsifyEnv(max_macs=2, **MADE), ValueError, "max_macs"),
    "mask's length": (lambda: Architecture(CONFIG, np.ones(19, bool)), ValueError, "20"),
    "mask's type": (lambda: Architecture(CONFIG, np.full(20, 0.5)), ValueError, "bool"),
    "mask's shape": (lambda: Architecture(CONFIG, np.ones((2, 20), bool)), ValueError, r"\(2, 20\)"),
    "mask's topology": (lambda: Architecture(CONFIG, np.ones(20, bool), "all"), ValueError, "30"),
    "masks to evaluate": (lambda: DenseNetSparsifyEnv(**MADE).problem.score(np.ones((3, 7), bool)), ValueError, "20"),
    "bits given": (lambda: DenseNetSparsifyEnv(**MADE).reset(options={"decided": [0, 1]}), ValueError, "20"),
    "step before reset": (lambda: DenseNetSparsifyEnv(**MADE).step(0), gym.error.ResetNeeded, "reset"),
    "task": (lambda: Task.load("digit"), ValueError, "'digits'"),
    "search's budget": (lambda: ads_gym.search("planted-20", "random", 2.5), ValueError, "evaluations"),
    "search's agent": (lambda: ads_gym.search("planted-20", 7), ValueError, "agent"),
    "network missing": (lambda: ads_gym.load("nowhere"), FileNotFoundError, "nowhere"),
    "store's folder": (lambda: EvaluationStore("/dev/null/store"), OSError, "store"),
}


@pytest.mark.parametrize("case", CONSTRUCTORS)
def test_in_python_too(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    call, kind, says = CONSTRUCTORS[case]
    with pytest.raises(AdsGymError, match=says) as caught:
        call()
    assert isinstance(caught.value, kind)
    assert not list(tmp_path.iterdir())
