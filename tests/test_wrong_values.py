"""Wrong values for every argument of every public callable: an AdsGymError, or success.

Public is what `ads_gym` exports, what README and examples import, and what these return or take.
"""

import ast
import inspect
import re
import warnings
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from marks import slow

import ads_gym
from ads_gym.agents.bayes.agent import Bayes
from ads_gym.agents.bernoulli import Bernoulli
from ads_gym.agents.density import Density
from ads_gym.agents.local_search import LocalSearch
from ads_gym.agents.pretrained.agent import Pretrained
from ads_gym.agents.pretrained.training import TrainingSettings
from ads_gym.agents.random_search import RandomSearch
from ads_gym.agents.rankings import Magnitude, Residual, Saliency
from ads_gym.agents.recurrent.agent import Recurrent
from ads_gym.agents.sb3 import vec_env
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.compression.sparsify import sparsify
from ads_gym.data.custom import load_custom
from ads_gym.data.given import read_images
from ads_gym.data.images import ImageSet, network_input, resize
from ads_gym.data.splits import DataSpec, calibration_images, default_spec, describe, load_splits
from ads_gym.devices import resolve_device
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.envs.vector import DenseNetSparsifyVectorEnv
from ads_gym.errors import AdsGymError
from ads_gym.evaluators.base import Metrics
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.evaluators.repaired import RepairedEvaluator
from ads_gym.evaluators.roofline import count_work, peak_memory
from ads_gym.evaluators.store import EvaluationStore, StoredEvaluator
from ads_gym.evaluators.throughput import measure_throughput, neighbours, random_masks, time_evaluator
from ads_gym.limits import allow_large
from ads_gym.nets.channels import least_macs, order_channels, reordered
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.distil import distil
from ads_gym.nets.export import export
from ads_gym.nets.folded import fold
from ads_gym.nets.from_torchvision import from_torchvision
from ads_gym.nets.latency import measure_latency
from ads_gym.nets.recipe import ConnectionDropout, Distillation, Recipe
from ads_gym.nets.repair import repair
from ads_gym.nets.residual import elimination_order
from ads_gym.nets.scoring import measure, score_logits
from ads_gym.nets.sparse import SparseDenseNet, build_sparse, calibrate, save
from ads_gym.nets.training import fit
from ads_gym.problem import make_problem
from ads_gym.reports.html import write_report
from ads_gym.runs.folder import circumstances
from ads_gym.runs.retraining import retrain
from ads_gym.supernet_training import SupernetSettings, spread, train_supernet
from ads_gym.tasks import SupernetTask, Task, save_task
from ads_gym.topology import Topology

ROOT = Path(__file__).parents[1]
CONFIG = DenseNetConfig((2, 2), 2, 4, image_shape=(1, 8, 8), classes=2)
MASK = np.array([True, False])
NODES = tuple((tuple(range(first)), (0, 1), (0, 1)) for first in (4, 8))
SPEC = DataSpec("mine.npz", None, 6, 6, calibration=6)
RECIPE = Recipe(epochs=1, batch_size=8)


class Wrong:
    """An object that is nothing that anybody asks for."""

    def __init__(self, *_, **__): ...

    def __repr__(self):
        return "Wrong()"


class Broken:
    """An object that does not even say what it is."""

    def __repr__(self):
        raise ZeroDivisionError


class BrokenArray:
    """An object that numpy cannot make an array of."""

    def __array__(self, *_, **__):
        raise KeyError("x")


def nested(wrap, levels):
    """A value in so many others."""
    value = 0
    for _ in range(levels):
        value = [value] if wrap is list else wrap(value)
    return value


WRONG = {
    "None": None,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "-1": -1,
    "0": 0,
    "3": 3,
    "1.5": 1.5,
    "10**30": 10**30,
    "10**400": 10**400,
    "10**5000": 10**5_000,
    "broken": Broken(),
    "broken array": BrokenArray(),
    "class with the name of another": type("array", (), {})(),
    "True": True,
    "text": "nonsense",
    "no text": "",
    "null": "a\0b",
    "surrogate": "\ud800",
    "long text": "x" * 5_000,
    "bytes": b"x",
    "path": Path("nowhere"),
    "list": [],
    "deep list": [[[[[[[[[[]]]]]]]]]],
    "very deep list": nested(list, 100_000),
    "very deep dict": nested(lambda inner: {"x": inner}, 100_000),
    "list in itself": (circle := [1], circle.append(circle))[0],
    "ragged list": [[1], [1, 2]],
    "texts": ["a", "b"],
    "dict": {},
    "dict of texts": {"x": "y"},
    "object": Wrong(),
    "class": Wrong,
    "function": lambda *_, **__: Wrong(),
    "numpy NaN": np.float32("nan"),
    "numpy -1": np.int64(-1),
    "empty array": np.zeros(0),
    "cube": np.ones((2, 2, 2), bool),
    "floats": np.full(2, 0.5),
    "objects": np.array([None, Wrong()]),
    "text array": np.array(["0", "1"]),
    "tensor": torch.zeros(2),
    "NaN tensor": torch.full((2, 1, 8, 8), float("nan")),
    "gradient": torch.zeros(2, requires_grad=True),
    "empty images": torch.zeros(0, 1, 8, 8, dtype=torch.uint8),
}


def images(count=24):
    return ImageSet(torch.zeros(count, 1, 8, 8, dtype=torch.uint8), torch.arange(count) % 2)


def network(**changes):
    return DenseNet(replace(CONFIG, **changes)).eval()


def sparse():
    return SparseDenseNet(Architecture(CONFIG, MASK)).eval()


def evaluator():
    return InheritedEvaluator(network(), images(6), images(6), device="cpu")


def problem():
    return make_problem("planted-20")


def env(**keywords):
    return DenseNetSparsifyEnv(**{"task": "planted-20"} | keywords)


def started():
    made = env()
    made.reset()
    return made


def envs(**keywords):
    return DenseNetSparsifyVectorEnv(**{"num_envs": 2, "task": "planted-20"} | keywords)


def started_envs():
    made = envs()
    made.reset()
    return made


@cache
def mine():
    """A task and a run on it, in the current folder."""
    rng = np.random.default_rng(0)
    np.savez("mine.npz", images=rng.integers(0, 256, (24, 8, 8)).astype(np.uint8), labels=np.arange(24) % 2)
    task = train_supernet(SupernetSettings(SPEC, CONFIG, RECIPE), "task", "mine", device="cpu")
    ads_gym.search("./task", "random", 2, run="run", progress=False)
    retrain("run", epochs=1, seeds=1, device="cpu")
    save(sparse(), "net")
    Recurrent(env(), hidden_size=2).save("policy")
    return task


def call(function, *positional, **keywords):
    """(function, its good arguments by name)."""
    names = list(inspect.signature(function).parameters)
    return function, dict(zip(names, positional, strict=False)) | keywords


def store():
    return EvaluationStore(":memory:")


def played(optimiser, method):
    """A call of `ask`, or of `tell` about what it asked for."""
    masks = optimiser.ask(2)
    return call(optimiser.ask, 2) if method == "ask" else call(optimiser.tell, masks, problem().score(masks))


def reset_to(decided):
    """In Stable-Baselines3's vector environment, options are set before."""
    made = vec_env(envs(observation="flat"))
    made.set_options([{"decided": decided}, {}])
    made.reset()


def step(actions):
    made = vec_env(envs(observation="flat"))
    made.reset()
    made.step(actions)


METRICS = Metrics(0.5, 0.5, 1.0, 10, 10, 0.5, 0.5)
CALLS = {  # each makes a function and its good arguments; functions that read files find them in the current folder
    "search": lambda: call(
        ads_gym.search,
        "planted-20",
        "random",
        2,
        seed=0,
        cost_weight=0.0,
        reward="soft",
        max_macs=1.0,
        scope="layers",
        decision=None,
        device="cpu",
        data_root=None,
        run="searched",
        restart=False,
        store=None,
        agent_options={},
        evaluator=None,
        weights="inherited",
        time_limit=None,
        progress=False,
    ),
    "make_problem": lambda: call(
        make_problem,
        "planted-20",
        scope="layers",
        device="cpu",
        evaluator=None,
        weights="inherited",
        store=None,
        reward="soft",
        cost_weight=0.0,
        max_macs=1.0,
        data_root=None,
    ),
    "load": lambda: call(ads_gym.load, "net"),
    "allow_large": lambda: call(allow_large, True),
    "Task.load": lambda: call(Task.load, "./task", None),
    "Task.evaluator": lambda: call(mine().evaluator, "layers", "cpu"),
    "Task.images": lambda: call(mine().images, "valid"),
    "Task.with_data_root": lambda: call(mine().with_data_root, "."),
    "Task.inherit": lambda: call(mine().inherit, Architecture(CONFIG, MASK), "cpu"),
    "SupernetTask.find": lambda: call(SupernetTask.find, "./task", None),
    "PlantedTask.evaluator": lambda: call(Task.load("planted-20").evaluator, "layers", "cpu"),
    "save_task": lambda: call(save_task, "saved", "mine", CONFIG, SPEC, network().state_dict(), mine().record),
    "Architecture": lambda: call(Architecture, CONFIG, MASK, "layers"),
    "Architecture.reading": lambda: call(Architecture.reading, CONFIG, CONFIG.source_widths, "layers"),
    "Architecture.read": lambda: call(Architecture.read, "net.json"),
    "Architecture.from_json": lambda: call(Architecture.from_json, Architecture(CONFIG, MASK).to_json(), "here"),
    "DenseNetConfig": lambda: call(DenseNetConfig, (2, 2), 2, 4, "conv3", False, 1.0, (1, 8, 8), 2),
    "Topology": lambda: call(Topology, (2, 2), "layers"),
    "Topology.check_masks": lambda: call(Topology((2, 2)).check_masks, MASK),
    "Topology.check_decisions": lambda: call(Topology((2, 2)).check_decisions, np.array([1, -1])),
    "Topology.adjacency": lambda: call(Topology((2, 2)).adjacency, MASK),
    "Topology.decisions": lambda: call(Topology((2, 2)).decisions, Topology((2, 2)).adjacency(MASK)),
    "Topology.key": lambda: call(Topology((2, 2)).key, MASK),
    "Topology.mask": lambda: call(Topology((2, 2)).mask, b"\x80"),
    "CostTable": lambda: call(CostTable, CONFIG, "layers"),
    **{
        f"CostTable.{name}": partial(lambda name: call(getattr(CostTable(CONFIG), name), MASK), name)
        for name in ("macs", "parameters", "relative_macs", "relative_cost")
    },
    "CostTable.random_mask": lambda: call(CostTable(CONFIG).random_mask, np.random.default_rng(0), 0.5),
    "Problem.score": lambda: call(problem().score, np.ones((1, 20), bool)),
    "Problem.fits": lambda: call(problem().fits, np.ones((1, 20), bool)),
    "Problem.project": lambda: call(problem().project, np.ones(20, bool), np.random.default_rng(0)),
    "Problem.sample": lambda: call(problem().sample, np.random.default_rng(0)),
    "Problem.architecture": lambda: call(problem().architecture, np.ones(20, bool)),
    "env": lambda: call(
        env,
        decision="connection",
        observation="matrix",
        scope="layers",
        device="cpu",
        evaluator=None,
        weights="inherited",
        store=None,
        reward="soft",
        cost_weight=0.0,
        max_macs=1.0,
        data_root=None,
        problem=None,
        render_mode=None,
    ),
    "env.reset": lambda: call(env().reset, seed=0, options={"decided": np.full(20, -1)}),
    "env.reset to": lambda: call(lambda decided: env().reset(options={"decided": decided}), np.full(20, -1)),
    "env.step": lambda: call(started().step, 1),
    "env.architecture": lambda: call(started().architecture, np.ones(20, bool)),
    "envs": lambda: call(envs, num_envs=2, autoreset_mode=AutoresetMode.NEXT_STEP, decision="layer"),
    "envs.reset": lambda: call(envs().reset, seed=0, options={"decided": np.full(20, -1)}),
    "envs.reset to": lambda: call(lambda decided: envs().reset(options={"decided": decided}), np.full(20, -1)),
    "envs.reset where": lambda: call(lambda mask: started_envs().reset(options={"reset_mask": mask}), np.ones(2, bool)),
    "envs.step": lambda: call(started_envs().step, np.ones(2, int)),
    "vec_env": lambda: call(vec_env, envs(observation="flat")),
    "vec_env.seed": lambda: call(vec_env(envs(observation="flat")).seed, 0),
    "vec_env.set_options": lambda: call(vec_env(envs(observation="flat")).set_options, [{}, {}]),
    "vec_env.reset": lambda: call(reset_to, np.full(20, -1)),
    "vec_env.step": lambda: call(step, np.ones(2, int)),
    "DataSpec": lambda: call(DataSpec, "mine.npz", None, 6, 6, 6, 0, None, False),
    "default_spec": lambda: call(default_spec, "mine.npz", None, seed=0, data_root=None),
    "describe": lambda: call(describe, SPEC, None),
    "load_splits": lambda: call(load_splits, SPEC, None, False),
    "load_custom": lambda: call(load_custom, Path("mine.npz"), None),
    "calibration_images": lambda: call(calibration_images, SPEC, images()),
    "ImageSet": lambda: call(ImageSet, images().images, images().labels),
    "ImageSet.take": lambda: call(images().take, [0, 1]),
    "ImageSet.to": lambda: call(images().to, "cpu"),
    "network_input": lambda: call(network_input, images().images, torch.float32),
    "resize": lambda: call(resize, images().images, 4, 10),
    "Recipe": lambda: call(Recipe, 1, 8, 0.1, 5e-4, 1, False, ConnectionDropout(), 0),
    "ConnectionDropout": lambda: call(ConnectionDropout, 0.5, 1.0, 2, 0.25, "layers"),
    "SupernetSettings": lambda: call(SupernetSettings, SPEC, CONFIG, RECIPE, None),
    "train_supernet": lambda: call(
        train_supernet,
        SupernetSettings(SPEC, CONFIG, RECIPE),
        "trained",
        "mine",
        replace_task=False,
        device="cpu",
        data_root=None,
        download=False,
        progress=None,
    ),
    "spread": lambda: call(spread, evaluator(), 1, 0, None),
    "retrain": lambda: call(retrain, "run", epochs=1, seeds=1, inherit=False, device="cpu", data_root=None, watch=None),
    "write_report": lambda: call(
        write_report, "run", "report.html", latency=False, batches=(1,), device="cpu", progress=False
    ),
    "fit": lambda: call(fit, network(), images(), RECIPE, None, None),
    "repair": lambda: call(repair, sparse(), network(), IMAGES, ridge=1e-3, rows_per_unknown=2, seed=0),
    "Distillation": lambda: call(Distillation, 1, 4, 1e-3, 1, False, 0),
    "distil": lambda: call(distil, sparse(), network(), IMAGES, Distillation(1), None),
    "sparsify": lambda: call(
        sparsify,
        network(),
        IMAGES,
        torch.zeros(4, dtype=torch.int64),
        valid=IMAGES,
        test=IMAGES,
        classes=None,
        transform=None,
        max_macs=0.99,
        evaluations=0,
        agent="random",
        distil=0,
        device="cpu",
        seed=0,
        run=None,
        progress=False,
    ),
    "from_torchvision": lambda: call(from_torchvision, network(), (8, 8)),
    "read_images": lambda: call(read_images, IMAGES, None, 10, 0),
    "order_channels": lambda: call(order_channels, network(bottleneck=True), IMAGES, None, multiple=1, seed=0),
    "reordered": lambda: call(reordered, network(bottleneck=True), NODES, (tuple(range(8)),) * 4),
    "least_macs": lambda: call(least_macs, CONFIG, 1, reads=True),
    "elimination_order": lambda: call(elimination_order, network(), IMAGES, "layers"),
    "DenseNet": lambda: call(DenseNet, CONFIG, "cpu"),
    "DenseNet()": lambda: call(network(), images=torch.zeros(2, 1, 8, 8), mask=MASK, scope="layers"),
    "SparseDenseNet": lambda: call(SparseDenseNet, Architecture(CONFIG, MASK), "cpu"),
    "SparseDenseNet()": lambda: call(sparse(), images=torch.zeros(2, 1, 8, 8)),
    "fold()": lambda: call(fold(sparse()), images=torch.zeros(2, 1, 8, 8)),
    "build_sparse": lambda: call(build_sparse, Architecture(CONFIG, MASK), network()),
    "calibrate": lambda: call(calibrate, network(), torch.zeros(4, 1, 8, 8)),
    "save": lambda: call(save, sparse(), "saved-net"),
    "fold": lambda: call(fold, sparse()),
    "export": lambda: call(export, sparse(), "exported", "torch-export", folded=False, replace=True),
    "measure": lambda: call(measure, network(), images(), 10),
    "score_logits": lambda: call(score_logits, torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)),
    "measure_latency": lambda: call(
        measure_latency, Architecture(CONFIG, MASK), 1, folded=True, device="cpu", repeats=1, max_seconds=1.0
    ),
    "measure_throughput": lambda: call(measure_throughput, network(), images(6), images(6), "cpu", 1, 1),
    "time_evaluator": lambda: call(time_evaluator, evaluator(), 12, 1, 1),
    "count_work": lambda: call(count_work, lambda: torch.ones(2) + 1),
    "peak_memory": lambda: call(peak_memory, torch.device("cpu")),
    "random_masks": lambda: call(random_masks, Topology((2, 2)), 2, np.random.default_rng(0)),
    "neighbours": lambda: call(neighbours, Topology((2, 2)), 2, np.random.default_rng(0)),
    "InheritedEvaluator": lambda: call(
        InheritedEvaluator, network(), images(6), images(6), "layers", "cpu", torch.float32, 2**20
    ),
    "RepairedEvaluator": lambda: call(
        RepairedEvaluator, network(), images(6), images(6), "layers", "cpu", torch.float32, 2**20
    ),
    "InheritedEvaluator.evaluate": lambda: call(evaluator().evaluate, MASK[None]),
    "InheritedEvaluator.logits": lambda: call(evaluator().logits, MASK),
    "PlantedEvaluator": lambda: call(PlantedEvaluator, CONFIG, "layers", "linear", 0),
    "PlantedEvaluator.evaluate": lambda: call(PlantedEvaluator(CONFIG).evaluate, MASK[None]),
    "StoredEvaluator": lambda: call(StoredEvaluator, PlantedEvaluator(CONFIG), store()),
    "EvaluationStore": lambda: call(EvaluationStore, ":memory:"),
    "EvaluationStore.read": lambda: call(store().read, "f", [b"x"]),
    "EvaluationStore.add": lambda: call(store().add, "f", {b"x": METRICS}),
    "EvaluationStore.add metrics": lambda: call(lambda metrics: store().add("f", {b"x": metrics}), METRICS),
    "resolve_device": lambda: call(resolve_device, "cpu"),
    "circumstances": lambda: call(circumstances),
    "RandomSearch": lambda: call(RandomSearch, problem(), seed=0),
    "Density": lambda: call(Density, problem(), seed=0, batch_size=2, n_epochs=1, clip_range=0.2, learning_rate=0.1),
    "Bernoulli": lambda: call(
        Bernoulli, problem(), seed=0, batch_size=2, n_epochs=1, clip_range=0.2, learning_rate=0.1
    ),
    "Residual": lambda: call(Residual, make_problem("digits"), seed=0),
    "Magnitude": lambda: call(Magnitude, make_problem("digits-table"), seed=0),
    "Saliency": lambda: call(Saliency, make_problem("digits-table"), seed=0, networks="half"),
    "Pretrained": lambda: call(Pretrained, make_problem("digits-table"), seed=0, policy=None, learn=False),
    "TrainingSettings": lambda: call(TrainingSettings, "linear", "all", 10, 2, 2, 2, None, 0.0, 0.1, 0.0, 0.1, 0.7, 0),
    "LocalSearch": lambda: call(LocalSearch, problem(), seed=0, starts=2, kick=1),
    "Bayes": lambda: call(Bayes, problem(), seed=0, batch_size=2, warmup=2, kappa=1.0, starts=2, kick=1),
    **{
        f"{kind.__name__}.{method}": partial(lambda kind, method: played(kind(problem()), method), kind, method)
        for kind in (RandomSearch, Density, Bernoulli, LocalSearch, Bayes)
        for method in ("ask", "tell")
    },
    "Recurrent": lambda: call(
        Recurrent,
        env(),
        seed=0,
        warmup=2,
        batch_size=2,
        hidden_size=2,
        initial_keep=0.5,
        min_probability=0.01,
        elites=1,
        n_epochs=1,
        clip_range=0.2,
        logit_learning_rate=0.1,
        learning_rate=0.1,
        decay_batches=1.0,
        imitation=1.0,
        exact_cost=True,
    ),
    "Recurrent.learn": lambda: call(Recurrent(env(), hidden_size=2, warmup=0, batch_size=2).learn, 10),
    "Recurrent.predict": lambda: call(Recurrent(env(), hidden_size=2).predict, env().reset()[0], None, None, False),
    "Recurrent.save": lambda: call(Recurrent(env(), hidden_size=2).save, "saved-policy"),
    "Recurrent.load": lambda: call(Recurrent.load, "policy", env()),
}

IMAGES = torch.linspace(-1, 1, 4 * 64).reshape(4, 1, 8, 8)

NOT_CALLED = {  # public names with nothing to give a wrong value to
    **dict.fromkeys(["AdsGymError", "BudgetExhausted"], "an error"),
    **dict.fromkeys(
        ["Agent", "Evaluator", "Optimiser"], "what users write; what they return is checked where it is used"
    ),
    **dict.fromkeys(
        ["Metrics", "Scored", "SearchResult"], "made in hot paths, and plain; stored and read by checked records"
    ),
    **dict.fromkeys(["Split", "BoolArray"], "a type"),
    **dict.fromkeys(["Layer", "Transition"], "parts of a network, which makes them of a checked config"),
    **dict.fromkeys(
        ["decomposition", "kernels", "COUNTS", "FEWEST", "POOL", "ROOMS", "SPREAD_COSTS", "__version__"], "no callable"
    ),
    "to_values": "the fields of a record that is there",
    **dict.fromkeys(
        ["architecture_cost", "dense_cost", "infer", "kept_within", "masks_that_cost"],
        "what our benchmarks take from below the functions that check",
    ),
    **dict.fromkeys(
        ["Game", "Pool", "ends", "every_mask", "interval", "make_member", "policy_paths", "read_member", "score"],
        "the same, of policies that have seen other networks",
    ),
    **dict.fromkeys(["train_on_pool", "write_file", "write_pretrained"], "the same"),
    **dict.fromkeys(["Role", "Weights"], "a choice: other names are told in the tests of choices"),
    "RecurrentPPO": "its options are a checked record; its environments are told in its own tests",
}


def imported_names(code):
    """The names that a program imports from this package."""
    return {
        alias.name
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ads_gym"
        for alias in node.names
    }


def test_every_public_name_is_called():
    """In the table above: what the package exports, and what README, docs and examples import."""
    programs = [path.read_text() for path in (ROOT / "examples").rglob("*.py")]
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        programs += re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    names = {*ads_gym.__all__, *(name for program in programs for name in imported_names(program))}
    called = {re.match(r"\w+", name)[0] for name in CALLS}
    assert len(programs) > 20 and "DenseNetConfig" in names
    assert sorted(names - called) == sorted(NOT_CALLED)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the calls read."""
    place = tmp_path_factory.mktemp("wrong")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("ADS_GYM_HOME", str(place / "home"))
        mine.cache_clear()  # of another folder: other tests may have run in between
        mine()
        yield place


@pytest.mark.parametrize("name", CALLS)
def test_good_values_are_taken(place, name):
    function, arguments = CALLS[name]()
    function(**arguments)


def faults_of(name):
    """Calls with one wrong value each that ended in another error."""
    faults = []
    for argument in CALLS[name]()[1]:
        for told, value in WRONG.items():
            function, arguments = CALLS[name]()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    function(**arguments | {argument: value})
                except AdsGymError as error:
                    if (
                        not isinstance(error, ValueError | TypeError | OSError | RuntimeError)
                        or len(str(error)) > 1_000
                    ):
                        faults.append(f"{name}({argument}={told}): {type(error).__name__} {error!s:.200}")
                except BaseException as error:
                    faults.append(f"{name}({argument}={told}): {type(error).__name__}: {error!s:.150}")
    return faults


# Seconds, because of what is right in the other arguments:
LONG = ("sparsify", "search", "time_evaluator", "measure_throughput", "spread")


@pytest.mark.parametrize("name", [(slow if name in LONG else pytest.param)(name) for name in CALLS])
def test_wrong_values_are_told(place, name):
    faults = faults_of(name)
    assert not faults, "\n".join(faults)
