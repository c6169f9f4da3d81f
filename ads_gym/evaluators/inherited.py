"""Inherited accuracy: an architecture with the supernet's weights, no training, BatchNorm statistics of its own.

Method. A batch of masks is sorted. Traversals of its prefix trie (`ads_gym.evaluators.prefix_trie`) compute the maps of
the calibration images under all masks and keep, for each mask, a few numbers: the statistics of every node. With these,
the maps of VALID are computed the same way, chunk by chunk. So memory is a chunk times a path for each traversal,
whatever the number of images and masks; small traversals are kept for the next batch. Every operation on a mask is the
same whatever else is in the batch or came before, and so are its bits.

On a CPU, traversals run in parallel on the evaluator's own threads, as many as torch may use, and each operation on one
of them: so the number of threads changes no bit either. Nor does anything else that the calling program sets in torch
(`ads_gym.torch_state`).
"""

import hashlib
from collections.abc import Callable, Sequence
from itertools import chain, islice, product
from typing import Annotated, Any, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.images import ImageSet, network_input
from ads_gym.devices import resolve_device
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.base import BaseEvaluator, Metrics, with_cost
from ads_gym.evaluators.decomposition import Decomposition, Estimates, Node, copy_weights, values_per_image
from ads_gym.evaluators.prefix_trie import Key, Traversal, split_by_work
from ads_gym.evaluators.workers import WorkerPool
from ads_gym.limits import MAX_MASKS, check_memory
from ads_gym.nets.cost import FLOAT32, CostTable, map_bytes, readers_macs
from ads_gym.nets.densenet import DenseNet, kept_sources
from ads_gym.nets.scoring import check_images, score_logits
from ads_gym.nets.tensorfile import check_finite
from ads_gym.records import checked
from ads_gym.topology import BoolArray, Scope, ScopeName, Topology
from ads_gym.torch_state import isolated

ARITHMETIC = 6  # goes up when the last bits of a mask's metrics may change
MEMORY_LIMIT = 1 << 30  # bytes, on a CPU
GPU_FRACTION = 4  # on a GPU, 1 / 4 of its memory: the more images at once, the better it is used
CACHE_FRACTION = 8  # kept traversals of calibration hold at most 1 / 8 of the limit, those of VALID another 1 / 8
CHUNK_BYTES = 5 << 18  # of the largest map that a layer makes of one chunk of VALID: it stays in the cache
MIN_CHUNK = 8  # images: with fewer, calls on the small maps of late blocks would cost more than their arithmetic
Result = TypeVar("Result")


class InheritedEvaluator(BaseEvaluator):
    """Computes the inherited metrics of masks on VALID, on a CPU or a GPU.

    It pickles as its arguments: a copy in another process computes everything anew.

    Args:
        supernet: trained; its weights are copied.
        calibration: images on which an architecture's BatchNorm statistics are re-estimated.
        valid: images that are scored: those of Split.VALID where the metrics are rewards.
        scope: of the masks.
        device: "cpu", "cuda", "cuda:1", or "auto": CUDA where there is one.
        dtype: of weights and feature maps.
        memory_limit: bytes that feature maps may take during an evaluation; between evaluations a quarter of it. It
            never fails: with less, more is computed twice, fewer traversals run in parallel, and at last VALID is split
            into smaller chunks. (The maps of all calibration images are needed at once, whatever the limit, and scale
            and shift of BatchNorms take as much as a few images.) None: 1 GiB on a CPU, a quarter of a GPU's memory.

    Raises:
        InvalidValue: images of another shape than the network reads, or labels of classes that it lacks; no images;
            weights that are no numbers; calibration images that need more memory than is allowed.
        DeviceUnavailable: this machine has no such device.
        ForkedProcess: this process was made by fork and would hang.
    """

    _masks_at_once = MAX_MASKS  # whose estimates are held
    _bytes_beside = 0  # that a traversal needs beside maps and what is computed of them

    @checked
    def __init__(
        self,
        supernet: DenseNet,
        calibration: ImageSet,
        valid: ImageSet,
        scope: ScopeName = Scope.LAYERS,
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
        memory_limit: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        for images in (calibration, valid):
            check_images(images, supernet.config)
        check_finite(supernet, "the supernet")
        nbytes = len(calibration) * map_bytes(supernet.config) * dtype.itemsize // FLOAT32
        check_memory(f"an evaluation on {len(calibration)} calibration images", nbytes)
        self.device, self.dtype = resolve_device(device), dtype
        self.config: DenseNetConfig = supernet.config
        self.topology = Topology(self.config.blocks, Scope(scope))
        self._cost, self._macs = CostTable(self.config, self.topology.scope), readers_macs(self.config)
        self._memory_limit = default_memory_limit(self.device) if memory_limit is None else memory_limit
        self._chunk = chunk_images(self.config, dtype, self._memory_limit, self.device)
        self._bytes_per_image = tuple(number * dtype.itemsize for number in values_per_image(self.config))
        self._workers = WorkerPool(self.device)
        with isolated(self.device):
            supernet = copy_weights(supernet)
            self._calibration = network_input(calibration.images.to(self.device), dtype)
            self._valid = torch.split(network_input(valid.images.to(self.device), dtype), self._chunk)
            self._labels = valid.labels.to(self.device)
            self._decomposition = self._decompose(supernet)
            self.provenance = self._provenance(supernet, calibration, valid)
        self._fingerprint = hashlib.sha256(repr(sorted(self.provenance.items())).encode()).hexdigest()
        self._arguments = (supernet, calibration, valid, self.topology.scope, device, dtype, memory_limit)
        self._cached: dict[str, Traversal] = {}  # by images and slice of the masks; taken out while in use

    @property
    def fingerprint(self) -> str:
        """Digest of `provenance`."""
        return self._fingerprint

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments

    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return the metrics of masks bool [n, E], in their order.

        Raises:
            ForkedProcess: this process was made by fork and would hang.
        """
        if not len(masks):
            return []
        with isolated(self.device):
            logits = self._logits(masks)
            (scores,) = self._workers.map(self._score, [logits], 1)
        return with_cost(self._cost, masks, scores)

    def logits(self, mask: BoolArray) -> Tensor:
        """[n, classes]: the logits of VALID under one mask bool[E]."""
        masks = self.topology.check_mask(mask)[None]
        with isolated(self.device):
            return torch.cat(self._logits(masks)[0])

    def close(self) -> None:
        """End the evaluator's threads and free kept feature maps. The next evaluation starts anew."""
        self._workers.close()
        self._cached.clear()

    def _decompose(self, supernet: DenseNet) -> Decomposition:
        """What traversals compute with."""
        return Decomposition(supernet, self.device, self.dtype, self._chunk)

    def _settings(self) -> list[str]:
        """What else metrics depend on."""
        return [f"arithmetic {ARITHMETIC}", f"{self.config}", f"scope {self.topology.scope}", f"{self.dtype}"]

    def _score(self, logits: Sequence[tuple[Tensor, ...]]) -> list[tuple[float, float, float]]:
        """Accuracy, soft accuracy and loss of each mask."""
        scores = torch.stack([score_logits(torch.cat(chunks), self._labels) for chunks in logits])
        if not scores.isfinite().all():
            raise InvalidValue("the network's outputs are no numbers (NaN or infinite): its weights are too large.")
        return [(accuracy, soft_accuracy, loss) for accuracy, soft_accuracy, loss in scores.cpu().tolist()]

    def _logits(self, masks: BoolArray) -> list[tuple[Tensor, ...]]:
        """For each mask, the logits [n, classes] of each chunk of VALID."""
        keys = [kept_sources(self.config, mask, self.topology.scope) for mask in masks]
        order = sorted(range(len(keys)), key=keys.__getitem__)
        by_mask: dict[int, tuple[Tensor, ...]] = {}
        for low in range(0, len(order), self._masks_at_once):
            part = order[low : low + self._masks_at_once]
            by_mask |= zip(part, self._logits_of([keys[index] for index in part]), strict=True)
        return [by_mask[index] for index in range(len(keys))]

    def _logits_of(self, keys: Sequence[Key]) -> list[tuple[Tensor, ...]]:
        """The same for the sorted keys of masks."""
        traversals = self._max_traversals(len(self._calibration) * self._bytes_per_image[0] + self._bytes_beside)
        calibrated = self._visit(
            "calibration", [self._calibration], traversals, keys, lambda path: [node.estimates for node in path]
        )
        traversals = self._max_traversals(self._chunk * sum(self._bytes_per_image))
        estimates = [of_mask for (of_mask,) in calibrated]
        return self._visit("valid", self._valid, traversals, keys, lambda path: path[-1].maps, estimates)

    def _visit(
        self,
        name: str,
        chunks: Sequence[Tensor],
        traversals: int,
        keys: Sequence[Key],
        extract: Callable[[list[Node]], Result],
        known: Sequence[list[Estimates]] | None = None,
    ) -> list[tuple[Result, ...]]:
        """For each mask, what `extract` returns for its nodes on each chunk of images; `traversals` run in parallel.

        Where there are fewer chunks than traversals, the sorted masks are split.
        """
        parts = split_by_work(keys, self._macs, max(1, traversals // len(chunks)))
        max_cached = self._memory_limit // CACHE_FRACTION // (len(chunks) * len(parts))  # bytes of one traversal

        def run(job: tuple[tuple[int, Tensor], tuple[int, slice]]) -> list[Result]:
            (chunk, images), (number, part) = job
            name_of_job = f"{name} {chunk} {number}"
            memory_budget = self._memory_limit // traversals - len(images) * self._bytes_per_image[0]
            memory_budget -= self._bytes_beside
            traversal = self._cached.pop(name_of_job, None) or Traversal(self._decomposition, images, memory_budget)
            results = traversal.visit(keys[part], extract, known and known[part])
            if traversal.nbytes <= max_cached:
                self._cached[name_of_job] = traversal
            return results

        jobs = list(product(enumerate(chunks), enumerate(parts)))
        results = iter(self._workers.map(run, jobs, traversals))
        by_chunk = [list(chain.from_iterable(islice(results, len(parts)))) for _ in chunks]
        return list(zip(*by_chunk, strict=True))

    def _max_traversals(self, nbytes: int) -> int:
        """How many traversals of `nbytes` each run in parallel; one fills a GPU."""
        return max(1, min(self._workers.threads, self._memory_limit // nbytes))

    def _provenance(self, supernet: DenseNet, calibration: ImageSet, valid: ImageSet) -> dict[str, str]:
        """What the bits of all metrics depend on, by name; on CUDA, what metrics depend on beyond rounding."""
        settings = self._settings()
        provenance = {
            "weights": _digest(supernet.state_dict()),
            "data": _digest({"calibration": calibration.images, "valid": valid.images, "labels": valid.labels}),
            "device": self.device.type,
            "torch": torch.__version__,
        }
        if self.device.type == "cpu":
            settings.append(f"chunk {self._chunk}")
            provenance["cpu capability"] = torch.backends.cpu.get_cpu_capability()
        return provenance | {"settings": ", ".join(settings)}


def default_memory_limit(device: torch.device) -> int:
    """Bytes that an evaluator may take if nothing else is said."""
    if device.type != "cuda":
        return MEMORY_LIMIT
    return int(torch.cuda.get_device_properties(device).total_memory) // GPU_FRACTION


def chunk_images(config: DenseNetConfig, dtype: torch.dtype, memory_limit: int, device: torch.device) -> int:
    """How many images of VALID are computed together: on a CPU each of their maps stays in the cache.

    On a CPU it depends on nothing that the fingerprint lacks; on a GPU a chunk is as large as the limit allows.
    """
    limit = memory_limit // (sum(values_per_image(config)) * dtype.itemsize)
    if device.type == "cuda":
        return max(1, limit)
    largest = config.growth * max(block.height * block.width for block in config.geometry)
    return max(1, min(max(CHUNK_BYTES // (largest * dtype.itemsize), MIN_CHUNK), limit))


def _digest(tensors: dict[str, Tensor]) -> str:
    """Hex digest of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
