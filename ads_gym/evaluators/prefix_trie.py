"""Feature maps under one mask after another, each computed once where masks agree.

Sorted masks make a trie: two that agree on what the first destinations read have the same maps up to there. A walk goes
through it depth first and holds one path.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from torch import Tensor

from ads_gym.evaluators.decomposition import Node, Parts, Sources, Statistics
from ads_gym.evaluators.kernels import LAYOUT
from ads_gym.topology import IntArray

Seen = TypeVar("Seen")


class Walk:
    """A set of images on its way through the trie of masks.

    Args:
        parts: of the supernet.
        images: float [n, c, h, w] scaled to [-1, 1].
        room: bytes of contributions that it may hold; what does not fit is computed again, to the same bits.
    """

    def __init__(self, parts: Parts, images: Tensor, room: int) -> None:
        self._parts, self._room = parts, room
        self._images = images.contiguous(memory_format=LAYOUT)  # what is computed of them keeps it
        self._path: list[Node] = []
        self._plan: list[Sources] = []  # what the destinations on the path read

    @property
    def held(self) -> int:
        """Bytes of feature maps and contributions on the path."""
        return sum(tensor.nbytes for node in self._path for tensor in (node.maps, *node.contributions.values()))

    def through(
        self,
        plans: Sequence[Sequence[Sources]],
        see: Callable[[list[Node]], Seen],
        known: Sequence[Sequence[Statistics]] | None = None,
    ) -> list[Seen]:
        """What `see` makes of the nodes under each mask: stem first, then every destination, the classifier last.

        It goes forwards or backwards, whichever begins nearer to where it stands; what it leaves behind, it forgets.

        Args:
            plans: what each destination reads under each mask (`kept_sources`), sorted.
            see: of a path.
            known: each node's statistics under each mask; None: estimate them, on these images.
        """
        forwards = range(len(plans))
        backwards = _agreement(plans[-1], self._plan) > _agreement(plans[0], self._plan)
        order = forwards[::-1] if backwards else forwards
        seen = [see(self._to(plans[index], known[index] if known else None)) for index in order]
        return seen[::-1] if backwards else seen

    def _to(self, plan: Sequence[Sources], known: Sequence[Statistics] | None) -> list[Node]:
        agreement = _agreement(plan, self._plan)
        self._go_back(agreement)
        if not self._path:
            self._path.append(self._parts.stem(self._images, known[0] if known else None))
        for index in range(agreement, len(plan)):
            node = self._arrive(index, plan[index], known[index + 1] if known else None)
            self._path.append(node)
            self._plan.append(plan[index])
        return self._path

    def _go_back(self, length: int) -> None:
        """Leaves all but the stem and the first `length` destinations, and what is contributed to those beyond."""
        for node in self._path[length + 1 :]:
            self._room += sum(tensor.nbytes for tensor in node.contributions.values())
        del self._path[length + 1 :], self._plan[length:]

    def _arrive(self, index: int, sources: Sources, known: Statistics | None) -> Node:
        """The node of destination `index` that reads `sources`."""
        destination = self._parts.destinations[index]
        terms = []
        for src in sources:
            position = destination.place.first + src
            node = self._path[position]
            term = node.contributions.get(index)
            if term is None:
                term = destination.contribution(src, node, index - position)
                if term.nbytes <= self._room:
                    self._room -= term.nbytes
                    node.contributions[index] = term
            terms.append(term)
        return destination.node(sources, terms, known)


def shared_out(plans: Sequence[Sequence[Sources]], macs: IntArray, walks: int) -> list[slice]:
    """Sorted masks in shares that take about equally long, at most so many; masks that are all equal are one share.

    Each walk goes down one whole path; every further mask costs it what this does not have in common with the last.

    Args:
        plans: what each destination reads under each mask.
        macs: what a new node at each destination costs those behind it (`readers_macs`).
    """
    behind = np.append(np.cumsum(macs[::-1])[::-1], 0)
    reached = np.cumsum([0] + [behind[_agreement(*pair)] for pair in pairwise(plans)])
    starts = np.unique(np.searchsorted(reached, np.arange(walks) * reached[-1] / walks)).tolist()
    return [slice(*ends) for ends in pairwise([*starts, len(plans)])]


def _agreement(a: Sequence[Sources], b: Sequence[Sources]) -> int:
    """How many destinations read the same in both, as far as the first that does not."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
