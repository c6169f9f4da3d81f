"""Dividing images so that each split has its share of each class. numpy only."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def stratified(order: IntArray, labels: IntArray, counts: Sequence[int | None]) -> IntArray:
    """`order` rearranged, so that its first `counts[0]` images have each class by its share, so the next, and so on.

    Where a class has few images, the last split gets one first, then the first: of one image, only the last has it.

    Args:
        order: int[n], the images in the order in which they are drawn.
        labels: int[n], the class of each image.
        counts: images in each split; None in the last = all that are left.
    """
    waiting = [order[labels[order] == label] for label in np.unique(labels)]  # of each class, still to be drawn
    drawn: list[IntArray] = []
    for index, count in enumerate(counts):
        is_last = index == len(counts) - 1
        left = np.array([len(images) for images in waiting])
        keep = left if is_last else np.maximum(left - 1, 0)  # one of each class for the last
        if count is None or count > keep.sum():
            keep = left
        shares = _shares(int(left.sum()) if count is None else count, left, keep)
        drawn += [images[:share] for images, share in zip(waiting, shares, strict=True)]
        waiting = [images[share:] for images, share in zip(waiting, shares, strict=True)]
    return np.concatenate([*drawn, *waiting])


def _shares(count: int, sizes: IntArray, most: IntArray) -> IntArray:
    """`count` divided in proportion to `sizes`, none above `most`, and none 0 if that can be."""
    ideal: NDArray[np.float64] = count * sizes / max(1, sizes.sum())
    least = np.minimum(1, most)
    if least.sum() > count:
        least = np.zeros_like(most)
    shares: IntArray = np.clip(np.floor(ideal).astype(np.int64), least, most)
    while shares.sum() > count:
        excess = np.where(shares > least, shares - ideal, -np.inf)
        shares[excess.argmax()] -= 1
    while shares.sum() < min(count, most.sum()):
        lack = np.where(shares < most, ideal - shares, -np.inf)
        shares[lack.argmax()] += 1
    return shares
