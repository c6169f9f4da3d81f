"""Compute feature maps under many masks, each once where masks agree: depth-first traversal of their prefix trie.

A mask's key is the sequence of what each destination reads (`kept_sources`). Two masks whose keys have a common prefix
have the same feature maps up to its end. Sorted keys are a depth-first order of the trie, so one path is all that has
to be in memory.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from torch import Tensor

from ads_gym.evaluators.decomposition import Decomposition, Estimates, Memory, Node, Sources
from ads_gym.evaluators.kernels import LAYOUT
from ads_gym.topology import IntArray

Key = Sequence[Sources]
Result = TypeVar("Result")


class Traversal:
    """Feature maps of a set of images along one path of the trie; it remains where the last visit ended.

    Args:
        decomposition: of the supernet.
        images: float [n, c, h, w] scaled to [-1, 1].
        memory_budget: bytes for contributions; those above it are computed again when needed, to the same bits.
    """

    def __init__(self, decomposition: Decomposition, images: Tensor, memory_budget: int) -> None:
        self._decomposition, self._memory = decomposition, Memory(memory_budget)
        self._images = images.contiguous(memory_format=LAYOUT)  # feature maps keep this layout
        self._path: list[Node] = []
        self._key: list[Sources] = []  # of the path

    @property
    def nbytes(self) -> int:
        """Bytes of feature maps and contributions on the path."""
        return sum(tensor.nbytes for node in self._path for tensor in (node.maps, *node.kept.values()))

    def visit(
        self,
        keys: Sequence[Key],
        extract: Callable[[list[Node]], Result],
        known: Sequence[Sequence[Estimates]] | None = None,
    ) -> list[Result]:
        """What `extract` returns for the path of each mask, in the order of `keys`.

        Keys are visited forwards or backwards, whichever end is nearer to the present path.

        Args:
            keys: of the masks, sorted.
            extract: called with the nodes of one path.
            known: estimates of each mask's nodes; None: make them, of these images.
        """
        forwards = range(len(keys))
        is_backwards = _common_prefix(keys[-1], self._key) > _common_prefix(keys[0], self._key)
        order = forwards[::-1] if is_backwards else forwards
        results = [extract(self._move(keys[index], known[index] if known else None)) for index in order]
        return results[::-1] if is_backwards else results

    def _move(self, key: Key, known: Sequence[Estimates] | None) -> list[Node]:
        """Go to the path of `key`."""
        length = _common_prefix(key, self._key)
        self._go_back(length)
        if not self._path:
            self._path.append(self._decomposition.stem(self._images, known[0] if known else None))
        for index in range(length, len(key)):
            node = self._compute(index, key[index], known[index + 1] if known else None)
            self._path.append(node)
            self._key.append(key[index])
        return self._path

    def _go_back(self, length: int) -> None:
        """Drop all but the stem and the first `length` destinations, with the contributions of what is dropped."""
        self._memory.forget(self._path[length + 1 :])
        del self._path[length + 1 :], self._key[length:]

    def _compute(self, index: int, sources: Sources, known: Estimates | None) -> Node:
        """The node of destination `index` if it reads `sources`."""
        return self._decomposition.node(index, sources, self._path, self._memory, known)


def split_by_work(keys: Sequence[Key], macs: IntArray, parts: int) -> list[slice]:
    """Split sorted masks into at most `parts` slices that take about equally long; equal masks stay together.

    Each traversal computes one whole path; every further mask costs what lies behind its common prefix with the last.

    Args:
        keys: of the masks.
        macs: MACs of all that may read each destination (`readers_macs`).
        parts: slices at most.
    """
    macs_behind = np.append(np.cumsum(macs[::-1])[::-1], 0)
    work = np.cumsum([0] + [macs_behind[_common_prefix(*pair)] for pair in pairwise(keys)])
    starts = np.unique(np.searchsorted(work, np.arange(parts) * work[-1] / parts)).tolist()
    return [slice(*ends) for ends in pairwise([*starts, len(keys)])]


def _common_prefix(a: Key, b: Key) -> int:
    """Length of the common prefix of two keys."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
