import sqlite3
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from marks import slow
from networks import KINDS, WIDE, random_images, reference_logits, trained_looking, trained_on_digits

from ads_gym.architecture import Architecture, DenseNetConfig
from ads_gym.data.images import network_input
from ads_gym.data.splits import Split
from ads_gym.errors import DeviceUnavailable, InvalidValue
from ads_gym.evaluators import inherited
from ads_gym.evaluators.base import provenance
from ads_gym.evaluators.decomposition import values_per_image
from ads_gym.evaluators.inherited import InheritedEvaluator
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.evaluators.prefix_trie import Traversal
from ads_gym.evaluators.store import EvaluationStore, StoredEvaluator
from ads_gym.nets.cost import CostTable
from ads_gym.nets.densenet import kept_sources
from ads_gym.nets.scoring import score_logits
from ads_gym.tasks import Task
from ads_gym.topology import Scope

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def small_chunks(monkeypatch):
    """VALID of the tests in several chunks, the last one smaller."""
    monkeypatch.setattr(inherited, "chunk_images", lambda config, dtype, limit, device: 20)


def evaluator_of(config, images=20, **settings):
    """On random images, as many to calibrate as to score."""
    calibration, valid = random_images(config, images, 1), random_images(config, images, 2)
    return InheritedEvaluator(trained_looking(config), calibration, valid, device="cpu", **settings)


def on_digits(**settings):
    task = Task.load("digits")
    settings = {"device": "cpu", **settings}
    return InheritedEvaluator(task.supernet(), task.calibration(), task.images(Split.VALID), **settings)


def masks_of(topology, n, seed=0):
    rng = np.random.default_rng(seed)
    masks = rng.random((n, topology.size)) < rng.random((n, 1))
    masks[0], masks[1] = True, False
    return masks


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("config", "scope"),
    [
        (pytest.param if config in KINDS[2:] and scope is Scope.ALL else slow)(config, scope)
        for config in (*KINDS, *WIDE)
        for scope in Scope
    ],
    ids=str,
)
def test_it_equals_the_plain_reference_in_float64(config, scope, device, monkeypatch):
    small_chunks(monkeypatch)
    supernet = trained_looking(config).double()
    images = random_images(config, 30, 1), random_images(config, 33, 2)
    compare(supernet, images, scope, device, count=200 // len(KINDS))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("bottleneck", "scope"),
    [(False, Scope.LAYERS), slow(False, Scope.ALL), slow(True, Scope.LAYERS), slow(True, Scope.ALL)],
)
def test_it_equals_the_plain_reference_in_float32_on_trained_weights(bottleneck, scope, device, monkeypatch):
    small_chunks(monkeypatch)
    task = Task.load("digits")
    images = task.calibration().take(range(150)), task.images(Split.VALID).take(range(45))
    compare(trained_on_digits(bottleneck), images, scope, device, count=100)


def compare(supernet, images, scope, device, count):
    """`count` masks, all and none among them, against the reference, in the supernet's dtype."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA here")
    calibration, valid = images
    dtype = supernet.classifier.weight.dtype
    evaluator = InheritedEvaluator(supernet, calibration, valid, scope, device, dtype)
    masks = masks_of(evaluator.topology, count)
    for mask, ours in zip(masks, evaluator.evaluate(masks), strict=True):
        logits = reference_logits(supernet, Architecture(supernet.config, mask, scope), calibration, valid, dtype)
        bound = 1e-9 if dtype is torch.float64 else 1e-5 * max(1.0, float(logits.abs().max()))
        found = evaluator.logits(mask).cpu()
        assert float((found - logits).abs().max()) <= bound
        top = logits.topk(2, dim=1).values
        clear = top[:, 0] - top[:, 1] > 2 * bound
        assert torch.equal(found.argmax(1)[clear], logits.argmax(1)[clear])
        assert ours.loss == pytest.approx(float(score_logits(logits, valid.labels)[2]), abs=2 * bound)


@pytest.mark.parametrize("config", [KINDS[0], KINDS[3], WIDE[0]], ids=str)
def test_a_mask_has_the_same_bits_in_any_company(config, monkeypatch):
    small_chunks(monkeypatch)
    evaluator = InheritedEvaluator(
        trained_looking(config), random_images(config, 30, 1), random_images(config, 33, 2), device="cpu"
    )
    masks = masks_of(evaluator.topology, 64)
    together = evaluator.evaluate(masks)
    assert [evaluator.evaluate(mask[None])[0] for mask in masks] == together
    order = np.random.default_rng(1).permutation(64)
    assert evaluator.evaluate(masks[order]) == [together[i] for i in order]
    stored = StoredEvaluator(evaluator, EvaluationStore(":memory:"))
    stored.evaluate(masks[::2])
    assert stored.evaluate(masks) == together
    assert evaluator.evaluate(masks[:0]) == []


@pytest.mark.parametrize("config", [KINDS[0], KINDS[3], WIDE[0]], ids=str)
def test_contributions_above_the_memory_budget_are_computed_again_to_the_same_bits(config):
    evaluator = evaluator_of(config)
    images, decomposition = evaluator._calibration, evaluator._decomposition
    keys = sorted(kept_sources(config, mask, Scope.LAYERS) for mask in masks_of(evaluator.topology, 40))
    rich, poor = Traversal(decomposition, images, 1 << 30), Traversal(decomposition, images, 5_000)
    for key in keys:
        new = Traversal(decomposition, images, 0)
        alone, *others = (traversal.visit([key], list)[0] for traversal in (new, rich, poor))
        for path in others:
            for node, same in zip(path, alone, strict=True):
                assert torch.equal(node.maps, same.maps)


def test_a_traversal_starts_at_the_nearer_end_and_returns_results_in_order():
    config = KINDS[0]
    evaluator = evaluator_of(config)
    keys = sorted(kept_sources(config, mask, Scope.LAYERS) for mask in masks_of(evaluator.topology, 6))
    new = [Traversal(evaluator._decomposition, evaluator._calibration, 0).visit([key], list)[0] for key in keys]
    traversal, visited = Traversal(evaluator._decomposition, evaluator._calibration, 1 << 30), []
    for _ in range(2):  # forwards; then backwards, from the last path
        paths = traversal.visit(keys, lambda path: visited.append(traversal._key[:]) or list(path))
        for path, same in zip(paths, new, strict=True):
            assert torch.equal(path[-1].maps, same[-1].maps)
    assert visited == keys + keys[::-1]


def test_traversals_kept_between_batches_change_no_bit(monkeypatch):
    small_chunks(monkeypatch)
    config = KINDS[0]
    images = random_images(config, 33, 1), random_images(config, 33, 2)
    limit = 33 * sum(values_per_image(config)) * 4 * inherited.CACHE_FRACTION
    keeping, poor = (
        InheritedEvaluator(trained_looking(config), *images, device="cpu", memory_limit=each)
        for each in (limit, limit // 8)
    )
    masks = masks_of(keeping.topology, 24)
    for batch in (masks[:8], masks[4:12], masks[4:5], masks[::-1]):
        assert keeping.evaluate(batch) == poor.evaluate(batch)
    assert keeping._cached and not poor._cached
    with ThreadPoolExecutor(4) as pool:  # concurrent callers never use the same traversal
        assert len({tuple(found) for found in pool.map(keeping.evaluate, [masks] * 4)}) == 1


@pytest.mark.slow
def test_memory_stays_below_the_limit_and_a_small_limit_never_fails():
    config = KINDS[0]
    supernet, images = trained_looking(config), [random_images(config, n, 1) for n in (30, 400)]
    masks = masks_of(CostTable(config).topology, 6)
    wide = InheritedEvaluator(supernet, *images, device="cpu")
    limit = sum(values_per_image(config)) * 4 * 50  # bytes of 50 images
    narrow = InheritedEvaluator(supernet, *images, device="cpu", memory_limit=limit)
    assert wide._chunk > narrow._chunk == 50
    assert narrow.fingerprint != wide.fingerprint  # another chunk may move the last bits
    least = InheritedEvaluator(supernet, *images, device="cpu", memory_limit=1)
    for other in (narrow, least):
        for a, b in zip(other.evaluate(masks), wide.evaluate(masks), strict=True):
            assert a.loss == pytest.approx(b.loss, abs=1e-5)


@pytest.mark.parametrize("side", [7, 9, 10])  # rows go together two by two, four by four
@pytest.mark.parametrize("growth", [3, 4, 8])
def test_between_batches_a_quarter_of_the_limit_is_kept(side, growth):
    config = DenseNetConfig((5,), growth, 4, "conv3", image_shape=(1, side, side))
    images = [random_images(config, n, 1) for n in (60, 60)]
    dense = CostTable(config).topology.dense()[None]

    def kept_bytes(limit):
        evaluator = InheritedEvaluator(trained_looking(config), *images, device="cpu", memory_limit=limit)
        evaluator.evaluate(dense)
        nodes = [node for traversal in evaluator._cached.values() for node in traversal._path]
        tensors = [tensor for node in nodes for tensor in (node.maps, *node.kept.values())]
        return sum({tensor.data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())

    everything = kept_bytes(1 << 30)
    for factor in (1, 2.7, 3.2, 3.4, 3.6, 3.8, 4, 5):  # just below four, an estimate without padded rows keeps too much
        limit = int(factor * everything)
        assert kept_bytes(limit) <= limit / 4
    assert everything > 0


def test_values_per_image_are_those_of_the_longest_path():
    for config in KINDS:
        evaluator = evaluator_of(config, 3, dtype=torch.float64)  # no padded rows
        key = kept_sources(config, evaluator.topology.dense(), Scope.LAYERS)
        (path,) = Traversal(evaluator._decomposition, evaluator._calibration, 1 << 30).visit([key], list)
        maps = sum(node.maps[0].numel() for node in path[:-1])
        contributions = sum(term[0].numel() for node in path for term in node.kept.values())
        assert values_per_image(config) == (maps, contributions)


def test_bfloat16_is_within_half_a_point_where_images_are_told_apart_clearly():
    evaluators = [on_digits(dtype=dtype) for dtype in (torch.float32, torch.bfloat16)]
    bound = 0.1  # of logits
    for mask in masks_of(evaluators[0].topology, 12):
        exact, rough = (evaluator.logits(mask).float() for evaluator in evaluators)
        top = exact.topk(2, dim=1).values
        clear = top[:, 0] - top[:, 1] > 2 * bound
        assert (exact.argmax(1) != rough.argmax(1))[clear].float().mean() <= 0.005


def test_with_little_memory_fewer_traversals_run_in_parallel(monkeypatch):
    config = KINDS[0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    bytes_per_image = sum(values_per_image(config)) * 4
    for traversals in (1, 3, 8):
        limit = traversals * 20 * bytes_per_image + 10
        images = [random_images(config, 20, seed) for seed in (1, 2)]
        evaluator = InheritedEvaluator(trained_looking(config), *images, device="cpu", memory_limit=limit)
        assert evaluator._max_traversals(20 * bytes_per_image) == traversals


def test_threads_change_no_bit(monkeypatch):
    small_chunks(monkeypatch)
    config = KINDS[3]
    evaluator = evaluator_of(config, 33)
    masks = masks_of(evaluator.topology, 7)
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(evaluator.evaluate(masks))
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_every_traversal_computes_on_one_thread(monkeypatch):
    small_chunks(monkeypatch)
    evaluator = evaluator_of(KINDS[0], 33)
    masks = masks_of(evaluator.topology, 4)
    visit, seen, before = Traversal.visit, [], torch.get_num_threads()

    def watched(self, *args):
        found = visit(self, *args)
        seen.append(torch.get_num_threads())
        return found

    monkeypatch.setattr(Traversal, "visit", watched)
    torch.set_num_threads(4)
    try:
        for _ in range(50):
            evaluator.close()  # new threads every time
            evaluator.evaluate(masks)
        assert torch.get_num_threads() == 4
    finally:
        torch.set_num_threads(before)
    assert len(seen) > 200 and set(seen) == {1}


def test_on_the_shipped_supernet_dense_is_good_and_the_chain_is_not():
    evaluator = Task.load("digits").evaluator("layers", device="cpu")
    dense, chain = evaluator.evaluate(np.stack([evaluator.topology.dense(), evaluator.topology.chain()]))
    assert dense.accuracy >= 0.965 and dense.accuracy - chain.accuracy >= 0.05
    assert (dense.relative_macs, dense.relative_cost, chain.relative_cost) == (1.0, 1.0, 0.0)


def test_the_dense_supernet_itself_scores_what_its_mask_does():
    from ads_gym.nets.scoring import measure

    task = Task.load("digits")
    evaluator = task.evaluator("layers", device="cpu")
    dense = evaluator.evaluate(evaluator.topology.dense()[None])[0]
    assert dense.loss == pytest.approx(measure(task.supernet(), task.images(Split.VALID)).loss, abs=1e-5)


def test_floats_are_read_as_they_are():
    config = KINDS[0]
    sets = random_images(config, 20, 1), random_images(config, 33, 2)
    floats = [type(each)(network_input(each.images), each.labels) for each in sets]
    scored, again = (InheritedEvaluator(trained_looking(config), *each, device="cpu") for each in (sets, floats))
    masks = masks_of(scored.topology, 4)
    assert scored.evaluate(masks) == again.evaluate(masks) and scored.fingerprint != again.fingerprint


def test_fingerprints_differ_where_metrics_may_differ():
    config = KINDS[0]
    supernet, other = trained_looking(config), trained_looking(config, seed=1)
    a, b, c = (random_images(config, 20, seed) for seed in range(3))
    variants = [
        InheritedEvaluator(supernet, a, b, device="cpu"),
        InheritedEvaluator(other, a, b, device="cpu"),
        InheritedEvaluator(supernet, c, b, device="cpu"),
        InheritedEvaluator(supernet, a, c, device="cpu"),
        InheritedEvaluator(supernet, a, b, Scope.ALL, device="cpu"),
        InheritedEvaluator(supernet, a, b, device="cpu", dtype=torch.float64),
    ]
    assert len({variant.fingerprint for variant in variants}) == len(variants)
    assert InheritedEvaluator(supernet, a, b, device="cpu").fingerprint == variants[0].fingerprint


def test_provenance_names_what_metrics_depend_on(monkeypatch):
    config = KINDS[0]
    supernet, other = trained_looking(config), trained_looking(config, seed=1)
    a, b, c = (random_images(config, 20, seed) for seed in range(3))
    first = InheritedEvaluator(supernet, a, b, device="cpu")

    def changed(evaluator):
        assert evaluator.provenance.keys() == first.provenance.keys()
        return {key for key, value in evaluator.provenance.items() if value != first.provenance[key]}

    assert set(first.provenance) == {"weights", "data", "settings", "device", "torch", "cpu capability"}
    assert provenance(first) == first.provenance == provenance(StoredEvaluator(first, ":memory:"))
    assert changed(InheritedEvaluator(other, a, b, device="cpu")) == {"weights"}
    assert changed(InheritedEvaluator(supernet, c, b, device="cpu")) == {"data"}
    assert changed(InheritedEvaluator(supernet, a, b, Scope.ALL, device="cpu")) == {"settings"}
    assert changed(InheritedEvaluator(supernet, a, b, device="cpu", memory_limit=1)) == {"settings"}  # another chunk
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "another one")
    another = InheritedEvaluator(supernet, a, b, device="cpu")
    assert changed(another) == {"cpu capability"} and another.fingerprint != first.fingerprint


def test_on_a_gpu_provenance_depends_on_no_memory_size_and_no_processor():
    evaluator = evaluator_of(KINDS[0])
    arguments, evaluator.device = evaluator._arguments[:3], torch.device("cuda")
    found = []
    for evaluator._chunk in (100, 200):
        found.append(evaluator._provenance(*arguments))
    assert found[0] == found[1] and set(found[0]) == {"weights", "data", "settings", "device", "torch"}


def test_an_evaluator_without_provenance_has_its_fingerprint():
    planted = PlantedEvaluator(KINDS[0], Scope.LAYERS, "linear", 0)
    assert provenance(planted) == {"evaluator": planted.fingerprint}


def test_masks_are_checked_once_by_who_gets_them_from_outside():
    evaluator = evaluator_of(KINDS[0])
    masks = masks_of(evaluator.topology, 4)
    assert evaluator.evaluate_checked(masks) == evaluator.evaluate(masks) == evaluator.evaluate(masks.astype(np.int8))
    with pytest.raises(InvalidValue):
        evaluator.evaluate(masks[:, 1:])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_told():
    with pytest.raises(DeviceUnavailable, match="--device cpu"):
        on_digits(device="cuda")
    with pytest.raises(InvalidValue, match="'cuda:N'"):
        on_digits(device="quantum")


def test_metrics_survive_the_store_to_the_bit(tmp_path):
    config = KINDS[0]
    evaluator = InheritedEvaluator(
        trained_looking(config), random_images(config, 30, 1), random_images(config, 33, 2), device="cpu"
    )
    masks = masks_of(evaluator.topology, 8)
    path = tmp_path / "store.sqlite"
    first = StoredEvaluator(evaluator, EvaluationStore(path)).evaluate(masks)
    assert StoredEvaluator(evaluator, EvaluationStore(path)).evaluate(masks) == first == evaluator.evaluate(masks)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_on_a_gpu_more_images_go_together():
    config = KINDS[0]
    images = [random_images(config, 20, seed) for seed in (1, 2)]
    chunks = [InheritedEvaluator(trained_looking(config), *images, device=device)._chunk for device in ("cpu", "cuda")]
    assert chunks[1] > 4 * chunks[0]
