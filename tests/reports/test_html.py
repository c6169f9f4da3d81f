"""The report of a search: what it shows, what it leaves alone, and that it stands alone."""

import json
import re
import shlex
import textwrap
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import read_manifest, read_rows, run_here
from marks import slow
from pages import Parsed, check_form, latencies, parsed, snapshot

import ads_gym
from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.envs.render import Cell, cells
from ads_gym.errors import InvalidValue, NotFound, StorageError
from ads_gym.nets.latency import Spread
from ads_gym.nets.sparse import build_sparse, calibrate, save
from ads_gym.reports import charts
from ads_gym.reports.html import render, with_latency, write_report
from ads_gym.reports.page import Curve, Page, Points, Role, Size, Stage
from ads_gym.reports.search_command import search_command
from ads_gym.reports.search_page import read_search, search_page
from ads_gym.runs import comparison
from ads_gym.runs.folder import RunFolder
from ads_gym.tasks import Task
from ads_gym.topology import Topology

STYLE = (Path(charts.__file__).parent / "templates/style.css").read_text()


def test_a_report_of_a_search(place):
    page = parsed("digits")
    check_form(page)
    manifest = read_manifest(place / "digits")
    *_, best = manifest["result"]["table"]
    dense = manifest["result"]["table"][0]
    macs = best["relative_macs"]
    told = (
        f"With {macs:.1%} of the MACs, the sparse network has {best['repaired_accuracy']:.1%} accuracy; the dense one, "
    )
    assert (told + f"{dense['accuracy']:.1%}.").replace("%", " %") in page.words
    for line in manifest["result"]["table"]:
        shares = line["relative_macs"], line["inherited_accuracy"], line["repaired_accuracy"]
        row = [line["name"], f"{line['objective']:.4g}", *(f"{share:.1%}".replace("%", " %") for share in shares)]
        assert " ".join(row) in page.words, row
    for heading in ("Side by side", "Accuracy against MACs", "The search", "Connections", "Use it", "Recipe"):
        assert heading in page.words
    for part in ("weights", "data", "agent's code"):
        assert manifest["identity"][part] in page.words
    assert "Latency on this machine" not in page.words
    assert (place / "digits/report.html").stat().st_size < 200_000


def test_nothing_else_in_the_folder_changes(place):
    before = snapshot(place / "digits")
    write_report("digits", "elsewhere/page.html", latency=False)
    assert snapshot(place / "digits") == before
    write_report("digits", latency=False)
    report, folder = str(place / "digits/report.html"), str(place / "digits")
    after = snapshot(place / "digits")
    assert set(after) - set(before) == {report}
    assert {name: after[name] for name in before if name != folder} == {n: before[n] for n in before if n != folder}


def test_scores_with_both_kinds_of_weights_come_from_the_record(place):
    """What the page says of the network is what its saved weights do."""
    for run, other in (("digits", "repaired"), ("repaired", "inherited")):
        stages = {stage.name: stage for stage in search_page(Path(run)).stages}
        assert list(stages) == ["dense", "inherited", "repaired"]
        assert all(stage.loss is not None for stage in stages.values())
        best = read_manifest(place / run)["result"]["table"][-1]
        assert stages["inherited"].accuracy == best["inherited_accuracy"]
        assert stages["repaired"].accuracy == best["repaired_accuracy"]
        task, network = Task.load("digits"), ads_gym.load(run)
        if other == "inherited":
            images = ads_gym.data.splits.network_input(task.calibration().images)
            network = calibrate(build_sparse(network.architecture, task.supernet()), images)
        valid = task.images("valid")
        from ads_gym.nets.scoring import measure

        assert measure(network, valid, 64).loss == pytest.approx(stages[other].loss, rel=1e-3)


def test_points_are_those_of_the_record(place):
    found = {(each.role, each.weights): len(each.places) for each in search_page(Path("digits")).points}
    assert found == {
        (Role.EVALUATED, "inherited"): 12,
        **{(role, weights): count for role, count in ((Role.RANDOM, 4), (Role.CHAIN, 1), (Role.CHOSEN, 1))
           for weights in ("inherited", "repaired")},
        (Role.DENSE, None): 1,
        (Role.RESIDUAL, "repaired"): 1,
    }  # fmt: skip
    random = next(each for each in search_page(Path("digits")).points if each.name == "random, repaired")
    line = next(line for line in read_manifest(place / "digits")["result"]["table"] if line["name"] == "random")
    assert np.mean([accuracy for _, accuracy in random.places]) == pytest.approx(line["repaired_accuracy"])


def test_sizes_are_those_of_files(place, tmp_path):
    page = search_page(Path("digits"))
    assert page.sparse.file_bytes == (place / "digits/best.safetensors").stat().st_size
    dense = Architecture(page.architecture.config, page.architecture.topology.dense())
    _, weights = save(build_sparse(dense, Task.load("digits").supernet()), tmp_path / "dense")
    assert page.dense.file_bytes == weights.stat().st_size


def test_its_code_runs(place, monkeypatch):
    *code, command = parsed("digits").codes
    assert "ads-gym search" in command and len(code) == 3
    scope = {}
    for each in code[:2]:
        exec(each, scope)
    alone = {}
    exec(code[2], alone)
    assert torch.allclose(alone["logits"], scope["network"](torch.zeros(16, 1, 8, 8)), atol=1e-5)
    assert scope["classes"].shape == (16,)


@pytest.mark.parametrize("run", ["planted", slow("repaired")])
def test_its_command_makes_the_same_run(place, capsys, monkeypatch, run):
    monkeypatch.setattr(comparison, "RANDOM_MASKS", 4)
    words = shlex.split(parsed(run).codes[-1].replace("\\\n", " "))
    if "=" in words[0]:
        assert words.pop(0).startswith("OMP_NUM_THREADS=")
    assert words.pop(0) == "ads-gym"
    assert run_here(capsys, *words).code == 0
    again, first = read_manifest(place / "again"), read_manifest(place / run)
    assert (again["identity"], again["result"]) == (first["identity"], first["result"])
    assert [row.mask for row in read_rows(place / "again")] == [row.mask for row in read_rows(place / run)]


OPTIONS = {"agent's options": {"density": 0.25, "text": "3", "word": "it's", "list": [1, None]}}


@pytest.mark.parametrize(
    ("identity", "task", "says"),
    [
        ({"limit in MACs": 400_001, "cost weight": 0.3, "reward": "mine:reward"}, "digits", "--reward mine:reward"),
        (OPTIONS, "my tasks/one", "--task 'my tasks/one'"),
        ({"agent": "mine:<lambda>"}, "digits", None),
        ({"agent": "__main__:Mine"}, "digits", None),
        ({"agent": {"a": 1}}, "digits", None),
        ({"agent's options": {"no name": 1}}, "digits", None),
        ({"agent's options": {"long": "x" * 100_000}}, "digits", None),
        ({}, None, None),
    ],
)
def test_the_command_says_what_the_manifest_says_or_is_not_there(place, identity, task, says):
    from ads_gym.agents.registry import parse_options
    from ads_gym.nets.cost import CostTable
    from ads_gym.problem import macs_limit

    found = read_search(Path("digits"))
    manifest = replace(found.manifest, identity={**found.manifest.identity, **identity}, task=task)
    command = search_command(manifest, found.result)
    assert (command is None) == (says is None)
    if command is None:
        return
    assert says in command
    words = shlex.split(command.replace("\\\n", " "))
    given = [after for before, after in pairwise(words) if before == "--agent-option"]
    assert parse_options(given) == manifest.identity["agent's options"]
    if limit := identity.get("limit in MACs"):
        share = float(words[words.index("--max-macs") + 1])
        assert macs_limit(CostTable(found.result.architecture.config), share) == limit


def test_every_limit_has_a_share(place):
    from ads_gym.nets.cost import CostTable
    from ads_gym.problem import macs_limit

    found = read_search(Path("digits"))
    cost = CostTable(found.result.architecture.config)
    for limit in np.linspace(cost.least_macs, cost.dense_macs, 200).astype(int).tolist():
        manifest = replace(found.manifest, identity={**found.manifest.identity, "limit in MACs": limit})
        share = re.search(r"--max-macs (\S+)", search_command(manifest, found.result))[1]
        assert macs_limit(cost, float(share)) == limit


def test_strangers_text_is_text(place):
    """In every string that a run's files may hold."""
    attack = "</title></style></code><script>alert(1)</script><img src=x onerror=alert(1)>\"'&{{7*7}}{%x%}\u202e"
    path = place / "digits/manifest.json"
    manifest = json.loads(path.read_text())
    kept = ("format", "result")

    def spoilt(value, key=""):
        if isinstance(value, dict):
            extra = {attack: attack} if key in ("identity", "circumstances") else {}
            return {name: item if name in kept else spoilt(item, name) for name, item in value.items()} | extra
        return attack if isinstance(value, str) else value

    manifest = spoilt(manifest)
    manifest["task"] = manifest["data_root"] = attack.replace("\u202e", "")
    for line in manifest["result"]["table"]:
        line["name"] += attack if line["name"] == "chain" else ""
    for name in ("began", "ended"):
        manifest[name] = attack
    path.write_text(json.dumps(manifest))
    page = parsed("digits")
    check_form(page)
    assert page.words.count("<script>alert(1)</script>") > 20
    html = (place / "digits/report.html").read_text(encoding="utf-8")
    assert "<script" not in html and "<img" not in html and "\u202e" not in html and "49" not in page.words[:40]


def test_numbers_beyond_reason_are_drawn(place):
    path = place / "planted/manifest.json"
    manifest = json.loads(path.read_text())
    for line in manifest["result"]["table"]:
        line.update(dict.fromkeys(("objective", "accuracy", "soft_accuracy", "loss", "relative_macs"), 1e308))
    manifest["identity"]["seed"] = [1]
    path.write_text(json.dumps(manifest))
    check_form(parsed("planted"))
    assert not re.search(r'="[^"]*\b(nan|inf)\b', (place / "planted/report.html").read_text(encoding="utf-8"))


def test_a_planted_task_has_no_network_to_load(place):
    page = parsed("planted", latency=True)
    check_form(page)
    assert "Use it" not in page.words and "Latency" not in page.words and "on disk" not in page.words
    assert "an evaluator of its own" in page.words and "Repaired" not in page.words


def test_sections_without_data_are_left_out():
    """As a report of another kind of run has it."""
    mask = np.arange(45) % 2 == 0
    architecture = Architecture(DenseNetConfig((6, 6, 6), growth=4), mask)
    names = ("dense", "inherited", "repaired", "distilled")
    stages = [Stage(name, 0.9 + 0.01 * index, seconds=1.0) for index, name in enumerate(names)]
    page = Page("mine", "It was made smaller.", "agreement", architecture, stages, Size(100, 50), Size(60, 30))
    shown = Parsed(render(page))
    check_form(shown)
    assert "With 60.0 % of the MACs, the sparse network has 93.0 % agreement; the dense one, 90.0 %." in shown.words
    assert "Distilled:" in shown.words and "Agreement:" in shown.words and "made in, s" in shown.words
    for absent in ("against MACs", "The search", "Use it", "Recipe", "Latency", "on disk", "loss", "None"):
        assert absent not in shown.words
    only = Parsed(render(replace(page, stages=stages[:1])))
    check_form(only)


def test_latency_is_measured_and_told(place):
    page = replace(search_page(Path("digits")), latency=latencies(), machine="a machine, 1 CPU thread, torch 9")
    shown = Parsed(render(page))
    check_form(shown)
    assert "1 2.00 1.00 to 4.00 2.00 1.00 to 4.00 1.50 1.40 to 1.60" in shown.words
    assert "on cpu: a machine, 1 CPU thread, torch 9" in shown.words and "No gain" not in shown.words
    slower = replace(page, latency=latencies(ratio=Spread(0.5, 0.4, 0.6)))
    assert "No gain at batch 64" in Parsed(render(slower)).words
    measured = with_latency(page, "cpu", batches=(3,))
    assert [each.batch for each in measured.latency] == [3] and f"torch {torch.__version__}" in measured.machine


def test_runs_that_cannot_be_reported(place):
    folder = RunFolder(place / "digits")
    folder.write(replace(folder.read(), result=None, ended=None))
    with pytest.raises(InvalidValue, match="digits is not over: give its command again"):
        write_report("digits")
    with pytest.raises(NotFound, match="no run folder"):
        write_report("nowhere")
    (place / "planted/report.html").symlink_to("manifest.json")
    before = (place / "planted/manifest.json").read_bytes()
    with pytest.raises(StorageError, match=r"report\.html is no regular file"):
        write_report("planted")
    assert (place / "planted/manifest.json").read_bytes() == before


def test_a_run_whose_replay_differed_says_so(place):
    folder = RunFolder(place / "planted")
    folder.write(replace(folder.read(), differs_at=7))
    assert "did not repeat itself at evaluation 7" in parsed("planted").words


# The command


def test_the_command(place, capsys):
    done = run_here(capsys, "report", "digits", "--out", "page.html", "--device", "cpu")
    assert (done.code, done.err) == (0, "") and done.out.split() == ["report", str(place / "page.html")]
    page = Parsed((place / "page.html").read_text(encoding="utf-8"))
    check_form(page)
    assert "Latency on this machine" in page.words and f"torch {torch.__version__}" in page.words
    assert "latency, batch 64" in page.words and not (place / "digits/report.html").exists()
    assert run_here(capsys, "report", "digits", "--no-latency").code == 0
    for arguments, says in ((("nowhere",), "no run folder"), (("digits", "--device", "gpu"), "'gpu'")):
        done = run_here(capsys, "report", *arguments)
        assert done.code == 2 and done.out == "" and done.err.count("\n") == 1 and says in done.err


# Pictures


def test_round_numbers_are_few_and_within():
    rng = np.random.default_rng(0)
    for _ in range(500):
        low, width = rng.normal() * 10 ** rng.uniform(-6, 6), 10 ** rng.uniform(-6, 9)
        most = int(rng.integers(3, 9))
        found = charts.round_numbers(low, low + width, most)
        assert 1 <= len(found) <= most
        assert all(low - 1e-9 * width <= value <= low + width + 1e-9 * width for value in found)


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0], [-1e30, 1e30], [1e-320, 0.0], [1.0, 1.0 + 1e-15], [3, 4]])
def test_an_axis_holds_its_values(values):
    axis = charts.Axis(values, 0, 100)
    assert all(-1e-6 <= axis.at(value) <= 100 + 1e-6 for value in values)
    assert all(-1 <= tick.at <= 101 for tick in axis.ticks(6))


@pytest.mark.parametrize("scope", ["layers", "all"])
def test_pictures_of_connections_show_the_mask(scope):
    topology = Topology((3, 12), scope)
    mask = np.random.default_rng(0).random(topology.size) < 0.4
    architecture = Architecture(DenseNetConfig((3, 12), image_shape=(1, 8, 8)), mask, scope)
    for block, expected in zip(charts.blocks(architecture), cells(topology, mask), strict=True):
        drawn = np.zeros_like(expected)
        for style, path in block.after.paths:  # a stroke on a cell hides those below it
            for column, row, wide in np.array(re.findall(r"M(\d+) (\d+)h(\d+)", path), int):
                drawn[row, column : column + wide] = Cell[style.upper()]
        assert np.array_equal(drawn, expected)
        assert sum(bar.kept for bar in block.bars) == block.kept == (expected == Cell.KEPT).sum()
        assert sum(bar.of for bar in block.bars) == block.of
        for bar in block.bars:
            row = len(expected) - 1 if bar.text == "output" else int(bar.text.split()[1]) - 1
            reads = np.flatnonzero((expected[row] == Cell.KEPT) | (expected[row] == Cell.FIXED))
            assert bar.sources == charts.ranges(reads.tolist())
    heights = re.findall(r"h[\d.]+V", charts.kept_by_distance(architecture).series[1].path)
    assert len(heights) == len(np.unique(topology.connections[:, 1] - topology.connections[:, 2]))


def test_ranges():
    assert charts.ranges([0, 2, 3, 4, 7, 8]) == "0, 2-4, 7-8" and charts.ranges([]) == ""


def test_the_curve_ends_at_the_best():
    values = np.random.default_rng(0).normal(size=300).tolist()
    chart = charts.best_so_far(Curve(values, [("dense", 0.5), ("chain", 0.5), ("random", 0.1)]))
    assert [series.name for series in chart.series] == ["each evaluation", "dense, chain", "random", "best so far"]
    heights = [float(value) for value in re.findall(r"V([\d.]+)", chart.series[-1].path)]
    assert heights == sorted(heights, reverse=True)  # downwards is more
    top = charts.Axis([*values, 0.5, 0.1], charts.BOTTOM, charts.TOP).at(max(values))
    assert heights[-1] == pytest.approx(top, abs=0.3)


def test_a_page_of_very_much_stays_small():
    """The largest network there may be, and a search of a hundred thousand evaluations."""
    config = DenseNetConfig((512,), image_shape=(1, 8, 8))
    rng = np.random.default_rng(0)
    architecture = Architecture(config, rng.random(Topology((512,)).size) < 0.5)
    places = list(zip(rng.random(100_000).tolist(), rng.random(100_000).tolist(), strict=True))
    points = [Points(Role.EVALUATED, places, "repaired"), Points(Role.RANDOM, places[:1000], "repaired")]
    stages = [Stage("dense", 0.9), Stage("repaired", 0.8)]
    curve = Curve(rng.normal(size=100_000).tolist())
    page = Page("large", "x", "accuracy", architecture, stages, Size(9, 9), Size(8, 8), points=points, curve=curve)
    html = render(page)
    assert len(html.encode()) < 2_000_000
    check_form(Parsed(html))


# Style


def luminance(colour):
    channels = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_told_from_the_paper_in_both_schemes():
    """By WCAG: 4.5 for text, 3 for marks."""
    schemes = [
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    ]
    for scheme in schemes[:2]:
        assert all(
            contrast(scheme[text], scheme[under]) >= 4.5 for text in ("ink", "muted") for under in ("paper", "raised")
        )
        assert all(
            contrast(scheme[mark], scheme["paper"]) >= 2.8 for mark in ("found", "other", "third", "dot", "fixed")
        )
        assert contrast(scheme["found"], scheme["dropped"]) >= 3  # kept beside dropped, in grey too


def test_the_template_has_no_stray_names():
    """Every class that pictures use has a style."""
    svg = (Path(charts.__file__).parent / "templates/svg.html").read_text()
    used = {name for each in re.findall(r'class="([\w -]+)"', svg) for name in each.split()}
    used |= {str(role) for role in Role} | {
        "kept",
        "dropped",
        "fixed",
        "track",
        "bar",
        "best",
        "other",
        "lead",
        "hollow",
    }
    missing = {name for name in used - {"axis"} if f".{name}" not in STYLE}
    assert not missing, textwrap.shorten(str(missing), 200)
