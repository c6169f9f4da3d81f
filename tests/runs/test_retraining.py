import json

import numpy as np
import pytest

import ads_gym
from ads_gym.architecture import Architecture
from ads_gym.data.splits import Split
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.files import to_json
from ads_gym.nets.cost import CostTable
from ads_gym.nets.scoring import measure
from ads_gym.runs import retraining
from ads_gym.runs.folder import FORMAT, FORMAT_VERSION
from ads_gym.runs.retraining import retrain
from ads_gym.tasks import Task


def write_manifest(folder, task, **more):
    text = to_json(FORMAT, FORMAT_VERSION, {"settings": {"task": str(task)}, **more})
    (folder / "manifest.json").write_text(text)


@pytest.fixture
def run(tmp_path):
    """What retraining reads of a run: its manifest and its best architecture."""
    task = Task.load("digits")
    mask = CostTable(task.config).random_mask(np.random.default_rng(0), 0.5)
    (tmp_path / "best.json").write_text(Architecture(task.config, mask).to_json())
    write_manifest(tmp_path, "digits")
    return tmp_path


def test_both_networks_learn_and_are_saved(run):
    report = retrain(run, epochs=3, seeds=2, inherit=True, device="cpu")
    assert [(n.network, n.seed) for n in report.networks] == [("sparse", 0), ("sparse", 1), ("dense", 0), ("dense", 1)]
    assert report.test_reads == 4
    sparse, dense = report.summaries()
    assert sparse.test_accuracy > 0.9 and dense.test_accuracy > 0.9
    assert sparse.relative_macs < 0.7 and dense.relative_macs == 1.0 and sparse.parameters < dense.parameters
    network = ads_gym.load(report.folder / "sparse-s1")
    assert network.architecture == Architecture.read(run / "best.json")
    assert measure(network, Task.load("digits").images(Split.TEST)) == report.networks[1].test


def test_test_is_read_once_and_more_seeds_extend(run, monkeypatch):
    first = retrain(run, epochs=1, seeds=1, device="cpu")
    before = (first.folder / "report.json").read_bytes()
    assert retrain(run, epochs=1, seeds=1, device="cpu").networks == first.networks
    assert (first.folder / "report.json").read_bytes() == before
    scored, test = [], len(Task.load("digits").images(Split.TEST))
    monkeypatch.setattr(
        retraining, "measure", lambda net, images: (scored.append(len(images)), measure(net, images))[1]
    )
    more = retrain(run, epochs=1, seeds=2, device="cpu")
    assert scored.count(test) == 2 and more.test_reads == 4
    assert more.networks[0] == first.networks[0]
    assert json.loads((more.folder / "report.json").read_text())["test_reads"] == 4


def test_a_killed_retraining_goes_on_to_the_same_result(run, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    for name in ("best.json", "manifest.json"):
        (other / name).write_bytes((run / name).read_bytes())

    def kill(network, epoch, loss):
        if (network, epoch) == ("dense-s0", 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrain(run, epochs=2, seeds=1, device="cpu", watch=kill)
    seen = []
    resumed = retrain(run, epochs=2, seeds=1, device="cpu", watch=lambda *step: seen.append(step[:2]))
    assert seen == [("dense-s0", 2)]
    assert not list(resumed.folder.glob("*.checkpoint.pt"))
    assert resumed.networks == retrain(other, epochs=2, seeds=1, device="cpu").networks


def test_what_is_no_run_is_told(run):
    with pytest.raises(InvalidValue, match="seed"):
        retrain(run, seeds=0)
    with pytest.raises(NotFound, match="no run folder"):
        retrain(run / "nowhere")
    report = retrain(run, epochs=1, seeds=1, device="cpu")
    (report.folder / "report.json").write_text("{}")
    with pytest.raises(DamagedFile, match=r"report\.json"):
        retrain(run, epochs=1, seeds=1, device="cpu")
    write_manifest(run, "planted-45")
    with pytest.raises(InvalidValue, match="no data"):
        retrain(run)
    (run / "manifest.json").write_text("{}")
    with pytest.raises(DamagedFile, match=r"manifest\.json"):
        retrain(run)
