"""One-flip moves from a mask, some at a time, in an order that somebody else gives. numpy only.

Shapes: E skip connections, k masks asked for at once.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ads_gym.agents.game import Game
from ads_gym.topology import BoolArray

Wanted = Callable[[BoolArray], NDArray[np.float64]]  # mask bool[E] -> [E], how likely each bit is to be better kept


class Climb:
    """Goes up from `base` by flips until a whole pass over the connections finds no better mask.

    A pass goes on from the new base after an improvement: what was tried lately is not tried again so soon. Where
    several flips of one batch improve, all of them together are tried next. A KEEP that does not fit the limit takes
    the place of the least wanted kept connections.

    Args:
        game: for what fits.
        base: bool[E], where to start.
        score: its.
        seen: scores of masks, by their bytes; it grows outside.

    Attributes:
        base, score: the best mask of this climb so far.
        over: whether a whole pass has found nothing.
    """

    def __init__(self, game: Game, base: BoolArray, score: float, seen: Mapping[bytes, float]) -> None:
        self.base, self.score = base, score
        self.over = False
        self._game, self._seen = game, seen
        self._tried: set[int] = set()  # in this pass
        self._improved = False
        self._together: BoolArray | None = None

    def ask(self, wanted: Wanted, most: int) -> list[BoolArray]:
        """At most so many masks to score that were not seen before; none where the pass ends without."""
        keep = wanted(self.base)
        order = np.argsort(np.where(self.base, keep, 1 - keep), kind="stable")  # the most disputed bits first
        asked: dict[bytes, BoolArray] = {}
        if self._together is not None:
            self._add(self._together, asked)
            self._together = None
        for index in order.tolist():
            if len(asked) >= most:
                break
            if index not in self._tried:
                self._tried.add(index)
                self._add(self._flipped(index, keep), asked)
        if not asked:
            self._end_pass()
        return list(asked.values())

    def tell(self, masks: Sequence[BoolArray], scores: Sequence[float]) -> None:
        """The scores of the masks that were asked for."""
        better = [mask ^ self.base for mask, score in zip(masks, scores, strict=True) if score > self.score]
        if not better:
            return
        together = self.base ^ np.logical_or.reduce(better)
        top = int(np.argmax(scores))
        self._move(masks[top], scores[top])
        if len(better) > 1 and self._game.fits(together):
            self._together = together

    def _add(self, mask: BoolArray, asked: dict[bytes, BoolArray]) -> None:
        """Asks for `mask` if it is new; if it is known to be better, goes there."""
        key = mask.tobytes()
        known = self._seen.get(key)
        if known is None:
            asked[key] = mask
        elif known > self.score:
            self._move(mask, known)

    def _move(self, mask: BoolArray, score: float) -> None:
        self.base, self.score, self._improved = mask, score, True

    def _end_pass(self) -> None:
        self.over = not self._improved
        self._tried.clear()
        self._improved = False

    def _flipped(self, index: int, keep: NDArray[np.float64]) -> BoolArray:
        """The base with one bit flipped, and others dropped where that does not fit."""
        mask = self.base.copy()
        mask[index] = not mask[index]
        for other in np.argsort(keep, kind="stable").tolist():
            if self._game.fits(mask):
                break
            if other != index:
                mask[other] = False
        return mask
