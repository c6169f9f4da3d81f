"""`ads-gym latency`: what it prints, what it reads, and how it answers what it cannot use."""

import pytest
import torch
from commands import run_here

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.nets import latency
from ads_gym.nets.sparse import SparseDenseNet, save

CONFIG = DenseNetConfig((3, 3), 4, 4, "conv3", image_shape=(1, 8, 8))
QUICK = ("--repeats", 2, "--device", "cpu")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    architecture = Architecture(CONFIG, [True, False] * 3)
    save(SparseDenseNet(architecture), tmp_path / "run/best")
    save(SparseDenseNet(architecture), tmp_path / "net.v2")
    huge = Architecture(DenseNetConfig((3,), 4, 4, "conv3", image_shape=(3, 8192, 8192)), [True] * 3)
    (tmp_path / "huge.json").write_text(huge.to_json())
    (tmp_path / "plain.json").write_text(architecture.to_json())
    (tmp_path / "net").write_text(architecture.to_json())
    (tmp_path / "damaged.json").write_text("{")
    (tmp_path / "foreign.npz").write_bytes(b"\xff\xfe\x00")
    return lambda *arguments: run_here(capsys, "latency", *arguments)


@pytest.mark.parametrize(
    "file", ["run", "run/best", "run/best.json", "run/best.safetensors", "plain.json", "net", "net.v2"]
)
def test_it_reads_an_architecture_by_any_of_its_names(run, file):
    done = run(file, *QUICK)
    assert (done.code, done.err) == (0, "")
    head, work, *table = [line.strip() for line in done.out.splitlines() if line.strip()]
    threads = torch.get_num_threads()
    assert head == f"cpu, CPU threads: {threads}, float32, BatchNorm folded, 2 repeats in turn"
    assert work.startswith("relative MACs 0.") and "dense / sparse" in table[0]
    assert [line.split()[0] for line in table[2:4]] == ["1", "64"]


def test_batches_and_folding_are_chosen(run):
    done = run("run", *QUICK, "--batch", 3, "--batch", 5, "--batch", 7, "--no-fold")
    rows = [line.split()[0] for line in done.out.splitlines() if " (" in line]
    assert rows == ["3", "5", "7"] and "not folded" in done.out


def test_no_gain_is_said(run, monkeypatch):
    time, ratio = latency.Spread(2e-3, 1e-3, 4e-3), latency.Spread(0.5, 0.4, 0.6)
    told = latency.Latency(8, True, "cpu", 1, 2, 0.5, time, time, ratio, 0.0)
    monkeypatch.setattr(latency, "measure_latency", lambda *_, **__: told)
    out = run("run", "--batch", 8).out
    assert "2.00 (1.00-4.00)" in out and "0.50 (0.40-0.60)" in out
    assert out.rstrip().endswith("No gain at batch 8: the sparse network is not faster.")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere",), "nowhere.json"),
        (("nowhere.json",), "nowhere.json"),
        (("damaged.json",), "damaged.json"),
        (("foreign.npz",), "foreign.npz"),
        ((".",), "best.json"),
        (("run", "--batch", 0), "batch should be greater than or equal to 1, got 0"),
        (("run", "--batch", 10**9), "got 1000000000"),
        (("run", "--repeats", 0), "repeats should be greater than or equal to 1, got 0"),
        (("run", "--device", "gpu"), "'gpu'"),
        (("run", "--device", "cuda:99"), "'cuda:99'"),
    ],
)
def test_bad_input_is_one_clear_line(run, arguments, says):
    done = run(*arguments)
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("Error: ") and done.err.count("\n") == 1 and says in done.err


def test_a_network_too_large_for_this_machine_is_told_in_a_line(run):
    done = run("huge.json", *QUICK, "--batch", 4096)
    assert done.code == 2
    assert "a batch of 4096 images would need 49,152.0 GiB of memory, and 8.0 GiB are allowed" in done.err
    done = run("huge.json", *QUICK, "--batch", 4096, "--allow-large")
    assert done.code == 2
    assert "no memory on cpu for this network and a batch of 4096" in " ".join(done.err.split())
