"""The two kinds of agents: policies, which play the environment step by step, and optimisers, which choose whole masks.

Shapes: E skip connections, n masks or environments.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, InstanceOf

from ads_gym.choices import Choice
from ads_gym.errors import InvalidValue, shown
from ads_gym.limits import MAX_EPOCHS, MAX_MASKS
from ads_gym.problem import Problem, Scored
from ads_gym.records import Seed, checked
from ads_gym.topology import BoolArray

Floats = NDArray[np.float64]
AtLeastTwo = Annotated[int, Field(ge=2, le=MAX_MASKS)]
Epochs = Annotated[int, Field(ge=1, le=MAX_EPOCHS)]
Positive = Annotated[float, Field(gt=0, le=1e9)]
NotNegative = Annotated[float, Field(ge=0, le=1e9)]


class Needs(Choice, what="need of an agent"):
    """What an agent reads of a problem besides masks and scores."""

    NOTHING = "nothing"
    FEATURES = "features"  # what is known of each connection before any evaluation: `Problem.feature`
    NETWORK = "network"  # the trained network and its images


class Agent(Protocol):
    """What a search needs of a policy: a class with `learn`. No base class is needed.

    Optional class attributes are read before the environment is made: `num_envs = n` asks for a Gymnasium vector
    environment of n instead of a single one, `observation = "flat"` for that observation; `needs = "features"` or
    "network" says what else it reads of the problem, and `source = "..."` where it is published.
    """

    def __init__(self, env: Any, *, seed: int) -> None:
        """Store the environment, the seed of all random numbers, and options as further keywords."""

    def learn(self, total_timesteps: int) -> Any:
        """Step the environment until it raises `BudgetExhausted`; `total_timesteps` is more than the budget allows."""


class Policy(Agent, Protocol):
    """A policy that can be used after its training. The names are Stable-Baselines3's, so its tools take it."""

    def predict(
        self,
        observation: NDArray[Any],
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Return actions for observations [n, ...] or a single one, and the recurrent state for the next call.

        It draws from a random generator of its own, so that it changes nothing in a training.
        """

    def save(self, path: str | Path) -> None:
        """Write the policy to `path`.json and `path`.safetensors."""

    @classmethod
    def load(cls, path: str | Path, env: Any) -> Self:
        """Return the policy that `save` wrote, for an environment with the same skip connections."""


class Optimiser(ABC):
    """Base class of optimisers: they choose whole masks and are told their scores; no environment is stepped.

    A search makes an optimiser as `cls(problem, seed=seed, **options)` and repeats

        masks = optimiser.ask(optimiser.batch_size)
        optimiser.tell(masks, problem.score(masks))

    until the budget is spent or `ask` returns an empty array. Any class with `ask` and `tell` will do: this base class
    only saves writing. The contract:

    - `ask` gets `batch_size` (1 where there is no such attribute), the optimiser's own choice. It never learns what is
      left of the budget, so a longer run begins like a shorter one.
    - Every mask that is asked for counts as an episode. One that was scored before costs no evaluation: its score is
      told again. A run ends after 20 episodes for each evaluation of its budget.
    - A batch that goes beyond the budget is evaluated as far as the budget reaches, and is not told.
    - All random numbers follow from `seed`: a stopped run is continued by repeating it with stored scores.
    - `decision` and `observation` belong to environments, and a search refuses them with an optimiser.

    Args:
        problem: what is searched; masks must fit its MACs limit (`Problem.project` makes them fit).
        seed: of all random numbers.

    Attributes:
        batch_size: how many masks it wants to have scored at once.
        needs: what it reads of the problem besides masks and scores; a search refuses it where the task lacks that.
        source: where the algorithm is published.
    """

    batch_size: int = 1
    needs: ClassVar[Needs] = Needs.NOTHING
    source: ClassVar[str] = ""

    @checked
    def __init__(self, problem: InstanceOf[Problem], *, seed: Seed | np.random.Generator = 0) -> None:
        self.problem = problem
        self.rng = np.random.default_rng(seed)

    @abstractmethod
    def ask(self, n: int) -> BoolArray:
        """Return the masks to score next, bool [at most n, E]; an empty array ends the search."""

    @abstractmethod
    def tell(self, masks: BoolArray, scores: Sequence[Scored]) -> None:
        """Learn the metrics and objectives of masks bool [n, E], as `ask` returned them."""


def objectives_of(problem: Problem, masks: BoolArray, scores: Sequence[Scored]) -> tuple[BoolArray, Floats]:
    """Return what an optimiser is told, checked: masks bool [n, E], and their objectives float [n].

    Raises:
        InvalidValue: no masks of the problem, or no scores of them.
    """
    masks = problem.topology.check_masks(masks)
    try:
        objectives = np.array([score.objective for score in scores], np.float64)
    except (AttributeError, TypeError, ValueError, OverflowError):
        objectives = np.empty(0)
    if masks.ndim != 2 or objectives.shape != masks.shape[:1] or not np.isfinite(objectives).all():
        raise InvalidValue(
            f"an optimiser is told masks [n, E] and their n scores, as Problem.score returns them, got masks of shape "
            f"{masks.shape} and {shown(scores)}."
        )
    return masks, objectives


def initial_logit(problem: Problem, keep: float = 0.5) -> float:
    """Return the logit of `keep`, or of the share of the cost that fits the MACs limit where that is less.

    (With 1/2 the first block would use up a limit.)
    """
    room = problem.room / (problem.cost.dense_macs - problem.cost.least_macs)
    probability = min(keep, max(room, 0.01))
    return float(np.log(probability / (1 - probability)))
