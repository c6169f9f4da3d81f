"""Inherited accuracy: an architecture with the supernet's weights, no training, BatchNorm statistics its own.

How it is computed. A batch of masks is sorted. Walks (`ads_gym.evaluators.prefix_trie`) take the calibration images through
all of them and leave, for each mask, a few numbers: the statistics of every node. Then VALID goes the same way, chunk
by chunk, with these. So memory is a chunk times a path for each walk, whatever the number of images and masks; walks
that need little stay where they are until the next batch. Every operation on a mask is the same whatever else is in the
batch or came before, and so are its bits.

On a CPU, walks run side by side, one on each of the threads that torch may use, and each operation on one of them: so
the number of threads changes no bit either.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice, product
from threading import Lock
from typing import TypeVar

import torch
from torch import Tensor

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.splits import ImageSet, network_input
from ads_gym.devices import resolve_device
from ads_gym.evaluators.base import BaseEvaluator, Metrics, with_cost
from ads_gym.evaluators.decomposition import Node, Parts, Sources, Statistics, numbers_an_image
from ads_gym.evaluators.prefix_trie import Walk, shared_out
from ads_gym.nets.cost import CostTable, readers_macs
from ads_gym.nets.densenet import DenseNet, kept_sources
from ads_gym.nets.scoring import score_logits
from ads_gym.topology import BoolArray, Scope, Topology

ARITHMETIC = 6  # goes up when the same mask may come out with other last bits
MEMORY_LIMIT = 1 << 30  # bytes, on a CPU
GPU_SHARE = 4  # on a GPU, this part of all its memory: the more images at once, the better it is filled
KEPT_SHARE = 8  # walks over calibration are kept that hold no more than this part of the limit; so are those over VALID
CHUNK_BYTES = 5 << 18  # of the largest map that a layer makes of one chunk of VALID: it stays in the cache
LEAST_CHUNK = 8  # images: of fewer, the small maps of late blocks would cost more in calls than in arithmetic
_CUDNN = Lock()
Job = TypeVar("Job")
Result = TypeVar("Result")


class InheritedEvaluator(BaseEvaluator):
    """Masks in, inherited metrics on VALID out, on a CPU or a GPU.

    Args:
        supernet: trained; its weights are copied.
        calibration: the images on which an architecture's BatchNorm statistics are re-estimated.
        valid: the images that are scored.
        scope: which skip connections a mask speaks of.
        device: "cpu", "cuda", "cuda:1", or "auto": CUDA where there is one.
        dtype: of weights and feature maps.
        memory_limit: bytes that feature maps may take while masks are evaluated; between batches a quarter of it. It
            never fails: with less, more is computed twice, fewer walks go side by side, and at last VALID goes in
            smaller chunks. (The maps of the calibration images are needed at once, whatever the limit, and BatchNorm's
            scale and shift take as much as a few images.) None: 1 GiB on a CPU, a quarter of a GPU's memory.

    Raises:
        DeviceUnavailable: this machine has no such device.
    """

    def __init__(
        self,
        supernet: DenseNet,
        calibration: ImageSet,
        valid: ImageSet,
        scope: Scope = Scope.LAYERS,
        device: str = "auto",
        dtype: torch.dtype = torch.float32,
        memory_limit: int | None = None,
    ) -> None:
        self.device, self.dtype = resolve_device(device), dtype
        self.config: DenseNetConfig = supernet.config
        self.topology = Topology(self.config.blocks, Scope(scope))
        self._cost, self._macs = CostTable(self.config, self.topology.scope), readers_macs(self.config)
        self._memory_limit = usual_memory_limit(self.device) if memory_limit is None else memory_limit
        self._chunk = chunk_images(self.config, dtype, self._memory_limit, self.device)
        self._an_image = tuple(number * dtype.itemsize for number in numbers_an_image(self.config))  # bytes on a path
        self._fingerprint = _fingerprint(self, supernet, calibration, valid)
        self._parts = Parts(supernet, self.device, dtype, self._chunk)
        self._calibration = network_input(calibration.images.to(self.device), dtype)
        self._valid = torch.split(network_input(valid.images.to(self.device), dtype), self._chunk)
        self._labels = valid.labels.to(self.device)
        self._kept: dict[str, Walk] = {}  # by images and share of the masks; who uses one takes it out

    @property
    def fingerprint(self) -> str:
        """Of weights, data and settings."""
        return self._fingerprint

    def evaluate_checked(self, masks: BoolArray) -> list[Metrics]:
        """Return the metrics of masks bool [n, E], in their order."""
        if not len(masks):
            return []
        with _exact(self.device):
            logits = self._logits(masks)
        (scores,) = _side_by_side(
            lambda rows: torch.stack([score_logits(row, self._labels) for row in rows]), [logits], 1
        )
        return with_cost(self._cost, masks, scores.cpu().tolist())

    def logits(self, mask: BoolArray) -> Tensor:
        """[n, classes]: what one mask bool[E] gives the images of VALID."""
        with _exact(self.device):
            return self._logits(self.topology.check_masks(mask)[None])[0]

    def _logits(self, masks: BoolArray) -> list[Tensor]:
        plans = [kept_sources(self.config, mask, self.topology.scope) for mask in masks]
        order = sorted(range(len(plans)), key=plans.__getitem__)
        ordered = [plans[i] for i in order]
        walks = self._walks(len(self._calibration) * self._an_image[0])
        estimated = self._visit(
            "calibration", [self._calibration], walks, ordered, lambda path: [node.statistics for node in path]
        )
        walks = self._walks(self._chunk * sum(self._an_image))
        known = [statistics for (statistics,) in estimated]
        logits = self._visit("valid", self._valid, walks, ordered, lambda path: path[-1].maps, known)
        rows = dict(zip(order, logits, strict=True))
        return [torch.cat(rows[i]) for i in range(len(plans))]

    def _visit(
        self,
        name: str,
        chunks: Sequence[Tensor],
        walks: int,
        plans: Sequence[list[Sources]],
        see: Callable[[list[Node]], Result],
        known: Sequence[list[Statistics]] | None = None,
    ) -> list[tuple[Result, ...]]:
        """What `see` makes of each mask's nodes, chunk by chunk of the images; so many walks go side by side.

        Where there are fewer chunks than walks, the sorted masks are shared out.
        """
        shares = shared_out(plans, self._macs, max(1, walks // len(chunks)))
        may_be_kept = self._memory_limit // KEPT_SHARE // (len(chunks) * len(shares))  # bytes of one walk

        def run(job: tuple[tuple[int, Tensor], tuple[int, slice]]) -> list[Result]:
            (chunk, images), (number, share) = job
            key = f"{name} {chunk} {number}"
            room = self._memory_limit // walks - len(images) * self._an_image[0]
            walk = self._kept.pop(key, None) or Walk(self._parts, images, room)
            seen = walk.through(plans[share], see, known and known[share])
            if walk.held <= may_be_kept:
                self._kept[key] = walk
            return seen

        found = iter(_side_by_side(run, list(product(enumerate(chunks), enumerate(shares))), walks))
        by_chunk = [list(chain.from_iterable(islice(found, len(shares)))) for _ in chunks]
        return list(zip(*by_chunk, strict=True))

    def _walks(self, held: int) -> int:
        """How many go side by side that hold so many bytes each: one fills a GPU."""
        threads = 1 if self.device.type == "cuda" else torch.get_num_threads()
        return max(1, min(threads, self._memory_limit // held))


def usual_memory_limit(device: torch.device) -> int:
    """Bytes that an evaluator takes if nothing else is said; for one kind of device always the same."""
    if device.type != "cuda":
        return MEMORY_LIMIT
    return int(torch.cuda.get_device_properties(device).total_memory) // GPU_SHARE


def chunk_images(config: DenseNetConfig, dtype: torch.dtype, memory_limit: int, device: torch.device) -> int:
    """How many images of VALID go together: set by network, limit and kind of device, so that it cannot move a result.

    On a CPU each map of a chunk stays in the cache; on a GPU a chunk is as large as the limit lets it be.
    """
    held = memory_limit // (sum(numbers_an_image(config)) * dtype.itemsize)
    if device.type == "cuda":
        return max(1, held)
    largest = config.growth * max(block.height * block.width for block in config.geometry)
    return max(1, min(max(CHUNK_BYTES // (largest * dtype.itemsize), LEAST_CHUNK), held))


def _side_by_side(run: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> list[Result]:
    """What `run` makes of each job, in their order; each on one thread, and so many jobs at once."""
    threads = torch.get_num_threads()

    def alone(job: Job) -> Result:
        try:
            torch.set_num_threads(1)  # of the thread that calls it
            with torch.inference_mode():
                return run(job)
        finally:
            torch.set_num_threads(threads)

    if workers == 1:
        return [alone(job) for job in jobs]
    # At its first look a new thread takes over torch's number of threads, as others left it: before we set our own.
    with ThreadPoolExecutor(workers, initializer=torch.get_num_threads) as pool:
        return list(pool.map(alone, jobs))


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """No TF32, whose ten bits of mantissa are cuDNN's default for float32: the references are met in full float32.

    The switch is the process's, so one evaluator at a time holds it.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    with (
        _CUDNN,
        cudnn.flags(
            enabled=cudnn.enabled, benchmark=cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False
        ),
    ):
        yield


def _fingerprint(evaluator: InheritedEvaluator, supernet: DenseNet, calibration: ImageSet, valid: ImageSet) -> str:
    """Hex digest of weights, data and every setting that moves a metric."""
    settings = (
        ARITHMETIC,
        evaluator.config,
        evaluator.topology.scope,
        evaluator.dtype,
        evaluator.device.type,
        torch.__version__,
        evaluator._chunk,
    )
    digest = hashlib.sha256(repr(settings).encode())
    for tensor in (calibration.images, valid.images, valid.labels, *supernet.state_dict().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
