"""Every kind of file that the program reads: how a good one is made, how it is spoilt, and what reads it."""

import gzip
import hashlib
import io
import json
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import mutate
import numpy as np
import torch
from PIL import Image
from rich.console import Console

import ads_gym
from ads_gym.agents.recurrent.agent import Recurrent
from ads_gym.agents.recurrent_ppo.agent import RecurrentPPO
from ads_gym.agents.registry import parse_options
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.benchmark.page import page
from ads_gym.benchmark.records import PLAN, RESULTS, Entry, Missing, Plan, Played, Results, Supernet
from ads_gym.benchmark.statistics import DEFINITION
from ads_gym.benchmark.tables import csv_of, markdown
from ads_gym.data import idx
from ads_gym.data.custom import load_custom
from ads_gym.data.images import ImageSet
from ads_gym.data.spec import DataSpec
from ads_gym.evaluators.base import FIELD_TYPES, MAX_METRIC, Weights, check_metrics
from ads_gym.evaluators.store import EvaluationStore
from ads_gym.evaluators.table import TableEvaluator, every_mask, read_table
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.recipe import Recipe
from ads_gym.nets.sparse import SparseDenseNet, load, save
from ads_gym.nets.tensorfile import load_weights, read_state_dict
from ads_gym.nets.training import fit
from ads_gym.reports.html import render
from ads_gym.reports.search_page import search_page
from ads_gym.runs.folder import RunFolder
from ads_gym.runs.pictures import print_result
from ads_gym.runs.record import RunRecord
from ads_gym.runs.result import SearchResult
from ads_gym.runs.retraining import REPORT, Report, Retrained, Sources
from ads_gym.supernet_training import SupernetSettings, train_supernet
from ads_gym.tabulation import tabulate
from ads_gym.tasks import Task
from ads_gym.topology import Topology

CONFIG = DenseNetConfig((3, 3), 2, 4, image_shape=(1, 8, 8))
RECIPE = Recipe(epochs=2, batch_size=8)
FORMATS = ("png", "jpg", "gif", "bmp", "tiff", "webp", "ppm", "tga")


class Stop(Exception):
    """Ends a training."""


def make(place):
    """All good files, below `place`: they are made by the program itself."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 8, 8)).astype(np.uint8), np.arange(60) % 3
    np.savez(place / "data.npz", images=images, labels=labels)
    for label in "ab":
        (place / "photos" / label).mkdir(parents=True)
        for number, ending in enumerate(FORMATS):
            pixels = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(place / "photos" / label / f"{number}.{ending}")
    header = bytes((0, 0, 8, 3)) + np.array([60, 8, 8], ">u4").tobytes()
    (place / "images.idx").write_bytes(header + images.tobytes())
    (place / "images.gz").write_bytes(gzip.compress(header + images.tobytes()))
    config = DenseNetConfig((2, 2), 2, 4, image_shape=(1, 8, 8), classes=3)
    data = DataSpec(str(place / "data.npz"), None, 10, 10, calibration=10)
    train_supernet(SupernetSettings(data, config, Recipe(epochs=1, batch_size=8)), place / "task", "mine", device="cpu")
    tabled = replace(Task.load(place / "task"), folder=place / "tabled")
    shutil.copytree(place / "task", place / "tabled")
    shutil.copy(tabulate(tabled, device="cpu").files.table, place / "table.safetensors")
    network = DenseNet(CONFIG)
    torch.save(network.state_dict(), place / "weights.pt")
    architecture = Architecture(CONFIG, np.arange(6) % 2 == 0)
    save(SparseDenseNet(architecture), place / "net")
    few = Architecture.reading(CONFIG, tuple((0,) * (len(each) - 1) + (1,) for each in CONFIG.source_widths))
    save(SparseDenseNet(few), place / "few")
    train = ImageSet(torch.from_numpy(images[:, None]), torch.from_numpy(labels))

    def stop(epoch, loss):
        raise Stop

    with suppress(Stop):
        fit(network, train, RECIPE, place / "checkpoint.safetensors", stop)
    ads_gym.search("planted-20", "random", 12, run=place / "run", store=place / "store", progress=False)
    planted = gym.make("ads_gym:DenseNetSparsify-v0", task="planted-20")
    Recurrent(planted, hidden_size=4).save(place / "policy")
    score = (0.5, 0.4, 1.0)
    rows = tuple(Retrained(name, 0, 100, 0.5, score, score) for name in ("sparse", "dense"))
    sources = Sources(RECIPE, architecture.to_record(), ("a", "b", "c"), None)
    REPORT.write(place / "report.json", Report(sources, 2, rows))
    RecurrentPPO(planted, hidden_size=4).save(place / "ppo")
    plan = Plan(("planted-20",), ("random", "local"), 0, 1, 12)
    PLAN.write(place / "plan.json", plan)
    supernet = Supernet("planted-20", "planted-20", False, 0.1, 0.01, None, 0.001)
    played = tuple(
        Played("planted-20", agent, 0, ((1, 0.2), (5, 0.4)), "ff00", 12, 0, 0.3, 1.0) for agent in plan.agents
    )
    absent = (Missing("planted-20", "other", None, "why"), Missing("planted-20", "third", 0, "a traceback"))
    RESULTS.write(
        place / "results.json",
        Results(
            plan,
            (Entry("random", "nothing", False),),
            (supernet,),
            played,
            absent,
            DEFINITION,
            {"torch": "2"},
            "a",
            "b",
        ),
    )
    (place / "options").write_text('{"starts": 3, "text": "x", "list": [1, 2.5, null]}')


def _manifest(place):
    manifest = RunFolder(place / "run").read()
    if manifest is not None and manifest.result is not None:
        result = SearchResult.from_record(place / "run", manifest.result, manifest.began)
        print_result(result, Console(file=io.StringIO(), width=100))


def assert_metrics(metrics):
    """Of the types and within the limits that they have."""
    for name, kind in FIELD_TYPES.items():
        assert type(getattr(metrics, name)) is kind and abs(getattr(metrics, name)) <= max(MAX_METRIC, 2**63)


def _record(place):
    with RunRecord(place / "run/record.sqlite") as record:
        topology = ads_gym.make_problem("planted-20").topology
        for (fingerprint,) in record.database.rows("SELECT DISTINCT fingerprint FROM evaluations"):
            for row in record.history(fingerprint, topology):
                assert_metrics(row.metrics)
                assert isinstance(row.objective, float) and abs(row.objective) <= MAX_METRIC
                topology.mask(row.mask)


def _page(place):
    html = render(search_page(place / "run"))
    assert html.count("<script") == 0 and len(html) < 2_000_000


def _store(place):
    with EvaluationStore(place / "store") as store:
        for fingerprint, mask in store.database.rows("SELECT fingerprint, mask FROM evaluations"):
            for metrics in store.read(fingerprint, [mask]).values():
                assert_metrics(metrics)
        store.add("new", {b"x": ads_gym.make_problem("planted-20").score(np.ones((1, 20), bool))[0].metrics})
        assert store.read("new", [b"x"])


def _checkpoint(place):
    images = torch.zeros(16, 1, 8, 8, dtype=torch.uint8)
    network = DenseNet(CONFIG)
    fit(network, ImageSet(images, torch.arange(16) % 10), RECIPE, place / "checkpoint.safetensors")


def _weights(place):
    load_weights(DenseNet(CONFIG), read_state_dict(place / "weights.pt"), place / "weights.pt")


def _policy(place):
    env = gym.make("ads_gym:DenseNetSparsify-v0", task="planted-20")
    observation, _ = env.reset()
    Recurrent.load(place / "policy", env).predict(observation)


def _network(place):
    network = ads_gym.load(place / "net")
    shape = network.architecture.config.image_shape
    if np.prod(shape) < 10_000:
        network(torch.zeros(1, *shape))


def _task(place):
    task = Task.load(place / "task")
    assert task.record.spread is not None
    task.supernet()


def _task_data(place):
    Task.load(place / "task").images("valid")


def _options(place):
    """Read as the command line reads an option, and given to an agent."""
    text = (place / "options").read_text(errors="surrogateescape")
    options = parse_options([f"more={text}"])["more"]
    from ads_gym.agents.local_search import LocalSearch
    from ads_gym.records import JsonObject, check

    check(options, JsonObject, "options")
    LocalSearch(ads_gym.make_problem("planted-20"), **{"starts": options.get("starts", 3)})


def _table(place):
    """As if its task named it."""
    file, topology = place / "table.safetensors", Topology((2, 2))
    table = read_table(file, topology, hashlib.sha256(file.read_bytes()).hexdigest())
    for weights in Weights:
        for metrics in TableEvaluator(DenseNetConfig((2, 2)), table, weights, "0").evaluate(every_mask(topology.size)):
            check_metrics([metrics], 1)


def _ppo(place):
    env = gym.make("ads_gym:DenseNetSparsify-v0", task="planted-20")
    observation, _ = env.reset()
    RecurrentPPO.load(place / "ppo", env).predict(observation)


def _results(place):
    results = RESULTS.read(place / "results.json")
    markdown(results)
    csv_of(results)
    assert page(results, b"").count("<script") == 0


KINDS = {  # name -> (file, how it is spoilt, what reads it)
    "architecture": ("net.json", mutate.json_text, lambda place: Architecture.read(place / "net.json")),
    "channels": ("few.json", mutate.json_text, lambda place: load(place / "few")),
    "network's description": ("net.json", mutate.json_text, _network),
    "network's weights": ("net.safetensors", mutate.safetensors, _network),
    "task": ("task/task.json", mutate.json_text, _task),
    "task's weights": ("task/supernet.safetensors", mutate.safetensors, _task),
    "table": ("table.safetensors", mutate.safetensors, _table),
    "task's data": ("task/task.json", mutate.json_text, _task_data),
    "manifest": ("run/manifest.json", mutate.json_text, _manifest),
    "report": ("report.json", mutate.json_text, lambda place: REPORT.read(place / "report.json")),
    "record": ("run/record.sqlite", mutate.record, _record),
    "page": ("run/manifest.json", mutate.json_text, _page),
    "page's record": ("run/record.sqlite", mutate.record, _page),
    "store": ("store", mutate.database, _store),
    "policy": ("policy.json", mutate.json_text, _policy),
    "policy's weights": ("policy.safetensors", mutate.safetensors, _policy),
    "recurrent-ppo's policy": ("ppo.json", mutate.json_text, _ppo),
    "recurrent-ppo's weights": ("ppo.safetensors", mutate.safetensors, _ppo),
    "plan": ("plan.json", mutate.json_text, lambda place: PLAN.read(place / "plan.json")),
    "results": ("results.json", mutate.json_text, _results),
    "checkpoint": ("checkpoint.safetensors", mutate.safetensors, _checkpoint),
    "weights": ("weights.pt", mutate.zip_file, _weights),
    "npz": ("data.npz", mutate.zip_file, lambda place: load_custom(place / "data.npz")),
    "images": ("photos", mutate.image, lambda place: load_custom(place / "photos", 8)),
    "images as they are": ("photos", mutate.image, lambda place: load_custom(place / "photos")),
    "idx": ("images.idx", mutate.any_bytes, lambda place: idx.read(place / "images.idx", 3)),
    "packed idx": ("images.gz", mutate.any_bytes, lambda place: idx.read(place / "images.gz", 3)),
    "options": ("options", mutate.json_text, _options),
}


FAILED_ONCE = {"options": [3537, 4168], "manifest": [2313]}  # kind -> seeds beyond the first, which are always tried


def cases(kinds, first, last):
    """All (kind, seed) of a range of seeds."""
    return [(kind, seed) for kind in kinds for seed in [*range(first, last + 1), *FAILED_ONCE.get(kind, [])]]


def spoil(kind, seed, good, place):
    """Copy what a kind reads from `good` to `place`, spoilt; with seed None, as it is."""
    name, change, _ = KINDS[kind]
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    top = Path(name).parts[0]
    for path in good.glob(f"{top.split('.')[0]}*"):
        (shutil.copytree if path.is_dir() else shutil.copy)(path, place / path.name)
    if seed is None:
        return
    file, rng = place / name, mutate.generator(kind, seed)
    if file.is_dir():
        file = rng.choice(sorted(path for path in file.rglob("*") if path.is_file()))
    file.write_bytes(change(rng, file.read_bytes()))


def describe(error):
    """An error in a line, for a report."""
    return json.dumps(f"{type(error).__name__}: {error}"[:300])
