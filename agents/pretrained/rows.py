"""What a policy reads of networks of any shape: the rows of observation "features", several networks at once.

Shapes, in this package: n networks or episodes, E skip connections (of the largest network; the rest is padding), F
features.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue, shown
from ads_gym.nets.features import Feature, ranks
from ads_gym.problem import Problem
from ads_gym.topology import UNDECIDED, Int8Array

SHAPE_FEATURES = sum(not feature.needs_network for feature in Feature)  # the first ones
WIDTH = len(Feature) + 9  # columns of observation "features"


class Inputs(Choice, what="inputs of a policy"):
    """Which features a policy reads; all but the first are for comparison."""

    ALL = "all"
    SHAPE = "shape"  # those that need no trained network; the ranks of the others are 1/2
    SHUFFLED = "shuffled"  # those of the trained network belong to other connections, drawn once for a network


class Rows(NamedTuple):
    """What is known of networks before the first decision."""

    ranks: Tensor  # float32 [n, E, F], 0 to 1
    costs: Tensor  # float32 [n, E], relative: they sum to 1; 0 in the padding
    is_real: Tensor  # bool [n, E]: no padding
    room: Tensor  # float32 [n]: relative cost that may be kept in all
    cost_weight: Tensor  # float32 [n]

    @classmethod
    def stack(cls, rows: Sequence[Self]) -> Self:
        """Rows of several networks as one, padded."""
        size = max(each.costs.shape[1] for each in rows)

        def padded(name: str) -> Tensor:
            parts = [getattr(each, name) for each in rows]
            if parts[0].ndim == 1:
                return torch.cat(parts)
            wide = [part.new_zeros(len(part), size, *part.shape[2:]) for part in parts]
            for whole, part in zip(wide, parts, strict=True):
                whole[:, : part.shape[1]] = part
            return torch.cat(wide)

        return cls(*map(padded, cls._fields))

    def repeat(self, times: int) -> Self:
        """Each network so many times, one copy after another."""
        return type(self)(*(part.repeat_interleave(times, 0) for part in self))


def known_ranks(features: NDArray[np.float64], inputs: Inputs, seed: int = 0) -> NDArray[np.float32]:
    """Return the ranks float32 [E, F] of features [E, F], as a policy with such inputs reads them.

    Args:
        features: in the order of `Feature`.
        inputs: which of them it reads.
        seed: of the draw of shuffled ones.
    """
    found = ranks(features.T).T.astype(np.float32)
    if inputs is Inputs.SHAPE:
        found[:, SHAPE_FEATURES:] = 0.5
    if inputs is Inputs.SHUFFLED:
        order = np.random.default_rng([seed, len(found)]).permutation(len(found))
        found[:, SHAPE_FEATURES:] = found[order, SHAPE_FEATURES:]
    return found


def rows_of(problem: Problem, inputs: Inputs = Inputs.ALL, seed: int = 0) -> Rows:
    """Return the rows of a problem, n = 1.

    Raises:
        InvalidValue: a problem without a trained network.
    """
    cost = problem.cost
    found = known_ranks(problem.features(), inputs, seed)
    room = problem.room / (cost.dense_macs - cost.least_macs)
    return make_rows(found, cost.relative_costs, room, problem.objective.cost_weight)


def make_rows(found: NDArray[np.float32], costs: NDArray[np.float64], room: float, cost_weight: float) -> Rows:
    """Return the rows of a network, n = 1.

    Args:
        found: ranks [E, F].
        costs: [E], relative.
        room: relative cost that may be kept.
        cost_weight: of the objective.
    """
    return Rows(
        torch.from_numpy(found).unsqueeze(0),
        torch.from_numpy(costs.astype(np.float32)).unsqueeze(0),
        torch.ones(1, len(costs), dtype=torch.bool),
        torch.tensor([room], dtype=torch.float32),
        torch.tensor([cost_weight], dtype=torch.float32),
    )


def read_observation(observation: Any) -> tuple[Rows, Int8Array]:
    """Return what observations "features" [n, E, 16] say: the rows, and the decisions int8 [n, E], -1 undecided.

    Raises:
        InvalidValue: another observation.
    """
    array = np.asarray(observation, np.float32)
    if array.ndim != 3 or array.shape[2] != WIDTH:
        raise InvalidValue(f"a policy reads observation 'features', [n, E, {WIDTH}], got {shown(observation)}.")
    rows, features = torch.from_numpy(array), len(Feature)
    costs, signs = rows[..., features], array[..., features + 1]
    room = rows[:, 0, features + 7] + rows[:, 0, features + 4]  # what is left, and what was spent
    is_real = torch.ones(costs.shape, dtype=torch.bool)
    decisions = np.where(signs == 0, UNDECIDED, signs > 0).astype(np.int8)
    return Rows(rows[..., :features], costs, is_real, room, rows[:, 0, features + 8]), decisions
