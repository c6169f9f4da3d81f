"""Make a table of a task: every architecture scored once, so that none is computed again."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ads_gym import files
from ads_gym.data.spec import Split
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.base import Weights
from ads_gym.evaluators.store import StoredEvaluator
from ads_gym.evaluators.table import COLUMNS, NETWORK_FEATURES, Table, every_mask
from ads_gym.supernet_training import data_digest
from ads_gym.tasks.supernet import SupernetTask
from ads_gym.topology import BoolArray, Scope, Topology

SCORED = Split.TRAIN, Split.VALID  # the images that a table is made of
BATCH = 256  # masks that are scored, and kept, at once
TabulationProgress = Callable[[int, int], None]  # masks done, of how many


def tabulate(
    task: SupernetTask,
    progress: TabulationProgress | None = None,
    device: str = "auto",
    weights: Sequence[Weights] = tuple(Weights),
) -> SupernetTask:
    """Score every architecture of a task, and keep all in its folder.

    If it is killed, the same call goes on. A task that has its table already is returned as it is; one that has it of
    some weights gets the others.

    Args:
        task: of a network with at most 20 skip connections; its folder is written to.
        progress: called after every batch.
        device: on which masks are scored.
        weights: with which they are scored.

    Raises:
        InvalidValue: more skip connections.
        AdsGymError: data or weights that cannot be used, no space, another process that is at it.
    """
    topology = Topology(task.config.blocks, Scope.LAYERS)
    masks = every_mask(topology.size)
    missing = [each for each in weights if each not in task.tabulated]
    if not missing:
        return task
    with files.locked(task.folder, "making a table"):
        _check_images(task)
        store, columns, valid = task.folder / "table.sqlite", dict(task.tabulated), task.data.valid
        for turn, each in enumerate(missing):
            evaluator = StoredEvaluator(task.evaluator(Scope.LAYERS, device, each), store)
            try:
                columns[each] = _score(evaluator, masks, valid, turn, len(missing), progress)
            finally:
                evaluator.close()
        features = {feature: task.feature(feature) for feature in NETWORK_FEATURES}
        made = task.with_table(Table(topology, task.weights_digest, valid, columns, features))
        for path in store.parent.glob(f"{store.name}*"):
            path.unlink()
        return made


def _check_images(task: SupernetTask) -> None:
    """Check that a task's images are those that it was made of.

    Raises:
        InvalidValue: others.
    """
    made_of = task.record.data
    if made_of is not None and made_of != data_digest({split: task.images(split) for split in SCORED}, *SCORED):
        raise InvalidValue(
            f"the images or labels of {task.data.source} changed after task {task.name!r} was trained: bring them "
            "back, or train it again."
        )


def _score(
    evaluator: StoredEvaluator,
    masks: BoolArray,
    valid: int,
    turn: int,
    turns: int,
    progress: TabulationProgress | None,
) -> dict[str, NDArray[Any]]:
    """The columns of a table, of masks bool [2^E, E] with one kind of weights.

    Args:
        evaluator: of them.
        masks: all.
        valid: images that are scored.
        turn: kinds of weights that are done.
        turns: of how many.
        progress: see `tabulate`.
    """
    columns = {name: np.empty(len(masks), kind) for name, kind in COLUMNS.items()}
    order = np.lexsort(masks.T[::-1])  # masks that begin alike follow each other, and share work
    for start in range(0, len(masks), BATCH):
        rows = order[start : start + BATCH]
        metrics = evaluator.evaluate_checked(masks[rows])
        columns["right"][rows] = [round(each.accuracy * valid) for each in metrics]
        columns["soft_accuracy"][rows] = [each.soft_accuracy for each in metrics]
        columns["loss"][rows] = [each.loss for each in metrics]
        if progress is not None:
            progress(turn * len(masks) + start + len(rows), turns * len(masks))
    return columns
