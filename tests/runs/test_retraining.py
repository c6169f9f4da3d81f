import json

import numpy as np
import pytest
import torch

import ads_gym
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.splits import DataSpec, Split
from ads_gym.errors import DamagedFile, InvalidValue, NotFound, StorageError
from ads_gym.files import locked
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import DenseNet
from ads_gym.nets.recipe import Recipe
from ads_gym.nets.scoring import measure
from ads_gym.nets.sparse import SparseDenseNet
from ads_gym.runs import retraining
from ads_gym.runs.folder import Manifest, RunFolder, now
from ads_gym.runs.retraining import retrain
from ads_gym.tasks import Task, save_task
from ads_gym.tasks.training_record import TrainingRecord


def write_manifest(folder, task):
    RunFolder(folder).write(Manifest({}, 1, {}, now(), ended=now(), task=str(task)))


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
    with pytest.raises(InvalidValue, match="no images and no network"):
        retrain(run)
    (run / "manifest.json").write_text("{}")
    with pytest.raises(DamagedFile, match=r"manifest\.json"):
        retrain(run)


def test_a_longer_search_has_its_new_network_retrained(run):
    """And more seeds never average two architectures."""
    first = retrain(run, epochs=1, seeds=1, device="cpu")
    task = Task.load("digits")
    better = Architecture(task.config, CostTable(task.config).random_mask(np.random.default_rng(1), 0.3))
    (run / "best.json").write_text(better.to_json())
    second = retrain(run, epochs=1, seeds=2, device="cpu")
    assert second.folder != first.folder
    sparse = [network for network in second.networks if network.network == "sparse"]
    assert {network.parameters for network in sparse} == {sum(p.numel() for p in SparseDenseNet(better).parameters())}
    for seed in range(2):
        assert ads_gym.load(second.folder / f"sparse-s{seed}").architecture == better


@pytest.mark.parametrize("inherit", [False, True])
def test_other_images_or_weights_are_another_retraining(run, tmp_path, inherit):
    """Where weights are inherited; from scratch, only the images count."""
    config = DenseNetConfig((2, 2), 2, 4, image_shape=(1, 8, 8), classes=2)
    rng = np.random.default_rng(0)
    data = tmp_path / "mine.npz"
    spec = DataSpec(str(data), None, 10, 10, calibration=10)

    def make(weights, images):
        np.savez(data, images=images, labels=np.arange(60) % 2)
        torch.manual_seed(weights)
        save_task(
            tmp_path / "task", "t", config, spec, DenseNet(config).state_dict(), TrainingRecord(Recipe(batch_size=8))
        )
        return retrain(run, epochs=1, seeds=1, inherit=inherit, device="cpu").folder

    write_manifest(run, tmp_path / "task")
    (run / "best.json").write_text(Architecture(config, [True, False]).to_json())
    images = [rng.integers(0, 256, (60, 8, 8)).astype(np.uint8) for _ in range(2)]
    first = make(0, images[0])
    assert make(0, images[0]) == first
    assert make(0, images[1]) != first
    assert (make(1, images[0]) == first) is not inherit


def test_two_retrainings_at_once(run):
    report = retrain(run, epochs=1, seeds=1, device="cpu")
    with locked(report.folder, "retraining"):
        assert retrain(run, epochs=1, seeds=1, device="cpu").networks == report.networks  # shown, not made
        with pytest.raises(StorageError, match=r"another process is retraining"):
            retrain(run, epochs=1, seeds=2, device="cpu")


def test_a_report_says_what_it_was_computed_from(run):
    report = retrain(run, epochs=1, seeds=1, device="cpu")
    values = json.loads((report.folder / "report.json").read_text())
    assert (values["format"], values["version"]) == ("ads-gym retraining", 2)
    sources, best = values["sources"], Architecture.read(run / "best.json")
    assert sources["architecture"]["mask"] == "".join("01"[bit] for bit in best.mask.astype(int))
    assert sources["weights"] is None and len(sources["data"]) == 3
    values["sources"]["data"][0] = "other"
    (report.folder / "report.json").write_text(json.dumps(values))
    with pytest.raises(DamagedFile, match="another retraining"):
        retrain(run, epochs=1, seeds=1, device="cpu")
