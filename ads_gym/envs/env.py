"""`DenseNetSparsifyEnv`: the Gymnasium environment; its docstring is the specification."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ads_gym.architecture import Architecture
from ads_gym.envs import render
from ads_gym.envs.episode import Decision, Episode, Rules
from ads_gym.envs.feature_observations import FeaturesObserver
from ads_gym.envs.observations import FlatObserver, MatrixObserver, Observation
from ads_gym.errors import InvalidValue, ResetNeeded, shown, unknown_name
from ads_gym.evaluators.base import FIELD_TYPES, Evaluator, Metrics, Weights
from ads_gym.evaluators.store import IN_MEMORY, EvaluationStore
from ads_gym.objective import Reward
from ads_gym.problem import Problem, make_problem
from ads_gym.records import Count, check
from ads_gym.tasks import Task
from ads_gym.topology import UNDECIDED, BoolArray, Int8Array, Scope, as_array

AnyObserver = MatrixObserver | FlatObserver | FeaturesObserver
_NUMPY_TYPES = {name: np.float64 if kind is float else np.int64 for name, kind in FIELD_TYPES.items()}


class DenseNetSparsifyEnv(gym.Env[NDArray[Any], Any]):
    """Decide which skip connections of a trained DenseNet to keep; what is left is scored without further training.

    ## Description

    A layer of a DenseNet reads every earlier layer of its block. Within block b, node 0 is the block's input, nodes
    1..L are its layers and node L+1 is its output (a transition or the classifier). The connections dst-1 -> dst are
    the chain and always kept. The E others are the skip connections, and an episode decides each of them, in the order
    (block, dst, src) ascending. At its end the network that is left is evaluated with the weights that it inherits from
    the trained dense network (the supernet of the task) and BatchNorm statistics re-estimated for it.

    E, the costs and their order depend on the task's network and on `scope`, and are found in `env.unwrapped.topology`
    and `env.unwrapped.cost`. B is the number of blocks, N = most layers in a block + 2.

    Learn with gamma = 1 (see Rewards). E is 45 for the default task, and an episode is as many steps, so rollouts
    should be some hundred steps long.

    ## Action Space

    DROP = 0, KEEP = 1 (`ads_gym.topology.Action`), and `decision` says how many at once:

    | decision     | action space         | one action decides                                         | steps        |
    |--------------|----------------------|------------------------------------------------------------|--------------|
    | "connection" | Discrete(2)          | one skip connection                                        | E            |
    | "layer"      | MultiDiscrete([2]*S) | the skip connections of one destination; entry j, source j | destinations |
    | "network"    | MultiDiscrete([2]*E) | all skip connections; entry i, the i-th                    | 1            |

    S is the most skip sources that a destination has; where one has fewer, the last entries are padding. A destination
    without skip sources (such as layer 1) is no step.

    Every action of the space is valid at every step: the bits apply in order, and a KEEP that is padding, was
    given (see Starting State), or does not fit `max_macs` any more after earlier bits of the same action, becomes DROP,
    costs nothing and is counted in `info["overruled"]`.

    Actions may be Python or numpy integers, arrays or sequences of them; for Discrete(2) also of shape (1,).

    ## Observation Space

    `observation="matrix"`: Box(-1, 1, (B, N, N), int8), the partial adjacency matrices, row dst, column src: 1 kept, 0
    dropped or no such connection, -1 undecided.

    `observation="flat"`: Box float32 of length 2E + 6:

    | index      | meaning                                                                              | range       |
    |------------|--------------------------------------------------------------------------------------|-------------|
    | 0 .. E-1   | skip connection i: 1 kept, -1 dropped, 0 undecided                                   | -1, 0, 1    |
    | E .. 2E-1  | 1 for each connection that the next action decides (all 0 at the end)                | 0, 1        |
    | 2E         | share of the E that is decided                                                       | 0 to 1      |
    | 2E+1       | relative cost so far                                                                 | 0 to 1      |
    | 2E+2       | relative cost that the next KEEP adds (in "layer", "network": KEEP in every entry)   | 0 to 1      |
    | 2E+3       | relative cost of all that is undecided                                               | 0 to 1      |
    | 2E+4       | budget left: `max_macs` (1 where there is none) - relative MACs so far               | 0 to 1      |
    | 2E+5       | cost weight                                                                          | -100 to 100 |

    `observation="features"`: Box float32 of shape (E, 16), a row for each skip connection, in the topology's order. It
    means the same for every network, so a policy that reads rows can play on networks of any shape. Its columns:

    | column  | meaning                                                                                 | range       |
    |---------|-----------------------------------------------------------------------------------------|-------------|
    | 0 .. 6  | rank among the E (0 least, 1 most) in each feature, in the order of `Feature`: cost,    | 0 to 1      |
    |         | position, distance, magnitude, saliency in the dense and in half networks, residual     |             |
    | 7       | relative cost of the connection                                                         | 0 to 1      |
    | 8       | 1 kept, -1 dropped, 0 undecided                                                         | -1, 0, 1    |
    | 9       | 1 where the next action decides it                                                      | 0, 1        |
    | 10 .. 15| as the last six of "flat", the same in every row; but 14 is the room that is left:      | as there    |
    |         | the relative cost that may still be kept (with no limit: 1 - relative cost so far)      |             |

    The features are of the trained network (`ads_gym.nets.features`), which takes gradients and least squares on the
    calibration images: once, at the first reset. A task without a trained network has none.

    "matrix" and "flat" show the same state, and each follows from the other; "features" adds its first seven columns.
    Let d[i] in {1, 0, -1} be what is decided of connection i = (b, dst, src), the i-th of the topology. From the
    matrix: d[i] = matrix[b, dst, src], so that `topology.decisions(matrix)` is d and `topology.adjacency(d)` is the
    matrix. From the vector: d[i] is 1, 0 or -1 where entry i is 1, -1 or 0. What comes next follows from d: it is the
    first connection with d[i] = -1 ("layer": all with -1 and its destination; "network": all with -1). So do the first
    five numbers, by the cost table and `max_macs`, which like the cost weight are constants of the environment. (A
    given decision looks like a made one.)

    Every earlier decision is in the observation: the state is fully observed, and a policy needs no memory.

    ## Starting State

    Nothing is decided; all skip connections are -1. Nothing is drawn at random: `seed` only seeds `np_random`.

    `reset(options={"decided": array})` with integers [E], -1 free, 0 dropped, 1 kept, starts from these bits: they are
    shown as decided from the first observation on, are no step ("connection"; "layer" where they fill a destination) or
    padding within one, and the relative cost of those kept is paid with the first reward. So a policy can be trained
    to complete what somebody else began, and a test can make the right answer depend on what it did not choose. At
    least one must be free, and those kept must fit `max_macs`.

    ## Rewards

    The last step pays the reward of the network: `reward` = "accuracy" (share of validation images classified right),
    "soft" (mean probability of the true class), "loss" (negated, nats), or a function of
    `ads_gym.evaluators.base.Metrics`.

    Each step costs `cost_weight` x the relative cost of the connections that it keeps; relative cost is 0 for the chain
    and 1 for the dense network. Cost is a sum over kept connections, so the undiscounted return of an episode is the
    objective of the network, reward(metrics) - cost_weight x relative cost, as if all were paid at the end. It is what
    `env.unwrapped.problem.objective(metrics)` computes and what a search maximises.

    This holds for gamma = 1 only, and that is the discount to learn with. Any other changes what is optimal: at 0.99 an
    accuracy after 198 steps weighs 0.137 against costs that come early and weigh 1, and the same connection costs more
    in block 1 than in block 3. Episodes are finite, so no discount is needed.

    `cost_weight="even"` is the weight at which the dense network and the chain have the same objective on this task:
    reward(dense) - reward(chain). Then what matters is which connections are kept, not how many. (Where the chain has
    the higher reward, the weight is negative.) It is computed at the first reset, from these two evaluations.

    ## Episode End

    Terminated when every skip connection is decided. Never truncated. A step after the end, or before the first reset,
    raises `ResetNeeded`. The registered specs have no `max_episode_steps`, because the number of steps depends on task,
    scope and decision: it is `len(env.unwrapped.rules.groups)`.

    ## Information

    The same keys come from reset and from every step:

    - `action_mask`: int8 of length sum(nvec) (2 for Discrete(2)), in the order drop0, keep0, drop1, ...; 1 is legal.
      KEEP is legal where the next action decides a connection that, by itself, fits `max_macs`. After the last decision
      only DROP is.
    - `decisions`: int8[E], 1 kept, 0 dropped, -1 undecided, in the topology's order.
    - `connection`: int64[3], (block, dst, src) that is decided next, the first one where there are several; -1s at the
      end.
    - `executed`: int8, an entry for each of the action's (length 1 for Discrete(2)): 1 kept, 0 dropped, -1 nothing was
      decided there (padding, a given bit, reset).
    - `overruled`: int64, how many KEEPs of the last action became DROP.

    The last step adds `accuracy`, `soft_accuracy`, `loss`, `macs`, `parameters`, `relative_macs`, `relative_cost`
    (float64 and int64, see `Metrics`). All entries are numpy numbers or arrays of numbers. Nothing in `info` depends on
    what a store holds. Arrays are never shared between two calls.

    Besides: `action_masks()` is the mask as bool (for MaskablePPO), `sample_mask()` what `action_space.sample` wants,
    `architecture(info["decisions"])` the `Architecture` of an episode that is over (`.to_json()` as text), and
    `problem.score(masks)` scores whole masks without stepping. Through wrappers: `env.unwrapped`, or
    `env.get_wrapper_attr("action_masks")()`.

    ## Arguments

    ```python
    gym.make("ads_gym:DenseNetSparsify-v0", task="digits", decision="layer", cost_weight="even", max_macs=0.6)
    ```

    - `task`: a name (see `ads-gym tasks`), a folder, or a `Task`. Default "digits".
    - `scope`: "layers" (default: the skip connections of layers) or "all" (of transitions and the classifier too).
    - `device`: where networks are evaluated: "auto" (default), "cpu", "cuda".
    - `evaluator`: None (default: the task's own), "planted:KIND:SEED" (a hidden mask on the task's network; no torch),
      "module:name" (called with task and scope), or an `Evaluator`, whose network then stands in for the task's.
    - `weights`: "inherited" (default), or "repaired": solved again in closed form for each network, without training.
      An episode takes a few times as long, and its accuracy is much nearer to what the network can do.
    - `store`: a path, or an `EvaluationStore`: evaluations are looked up there before they are paid for, and committed
      there. Default: in memory, for this environment alone; nothing is stored where looking up is slower (planted).
    - `decision`: "connection" (default), "layer", "network".
    - `observation`: "matrix" (default), "flat", "features". `DenseNetSparsifyFlat-v0` is this class with observation
      "flat", reward "soft" and cost weight "even", for scripts that take an id and nothing else: with the defaults,
      keeping everything is a good answer.
    - `reward`: "accuracy" (default), "soft", "loss", "module:name", or a function of metrics that returns a float.
    - `cost_weight`: 0 (default) to 100, or "even".
    - `max_macs`: None (default), or a limit on MACs / dense MACs, at most 1 and at least what the chain needs. It
      changes what is legal, not what is likely: with a fair coin the limit is used up in the first block.
    - `data_root`: where data sets lie; default `$ADS_GYM_DATA`.
    - `problem`: a `Problem` (`ads_gym.make_problem`) instead of all of the above but decision and observation.
    - `render_mode`: None, "ansi" (text), "rgb_array" (uint8 [height, width, 3]), "human" (prints the text).

    `gym.make_vec("ads_gym:DenseNetSparsify-v0", num_envs=64)` takes the same and steps 64 episodes as arrays: see
    `ads_gym.envs.vector.DenseNetSparsifyVectorEnv`.

    Strings and numbers survive `env.spec.to_json()`; an object given for `task`, `evaluator`, `reward`, `store` or
    `problem` works, but not through JSON. The constructor reads the task's description and nothing else: data, weights
    and store are opened when the first evaluation asks for them. Start processes by spawn, as in `gym.make_vec(...,
    vectorization_mode="async", vector_kwargs={"context": "spawn"})`: a forked one raises `ForkedProcess`.

    Wrong arguments raise an `ads_gym.AdsGymError` that is a ValueError too.

    ## References

    - "Automatic DenseNet Sparsification", IEEE Access, 2020; and W. Jiao, T. Li, G. Zhong, L.-N. Wang: "AutoML for
      DenseNet Compression", ICONIP 2019, doi:10.1007/978-3-030-36718-3_13. Theirs are the adjacency matrix, the
      recurrent agent, validation accuracy as reward and inherited weights; this environment was written from the
      abstracts, and its details are its own.
    - G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger: "Densely Connected Convolutional Networks", CVPR 2017.

    ## Version History

    - v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array", "human"], "render_fps": 4}  # noqa: RUF012

    def __init__(  # noqa: PLR0913 - its keywords are its user interface
        self,
        *,
        task: str | Task = "digits",
        scope: str | Scope = Scope.LAYERS,
        device: str = "auto",
        evaluator: str | Evaluator | None = None,
        weights: str | Weights = Weights.INHERITED,
        store: str | Path | EvaluationStore | None = None,
        decision: str | Decision = Decision.CONNECTION,
        observation: str | Observation = Observation.MATRIX,
        reward: str | Reward = "accuracy",
        cost_weight: float | str = 0.0,
        max_macs: float | None = None,
        data_root: str | Path | None = None,
        problem: Problem | None = None,
        render_mode: str | None = None,
    ) -> None:
        if not (render_mode is None or (isinstance(render_mode, str) and render_mode in self.metadata["render_modes"])):
            raise unknown_name("render mode", render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        settings: dict[str, Any] = {
            "task": task,
            "scope": scope,
            "device": device,
            "evaluator": evaluator,
            "weights": weights,
            "store": store,
        }
        settings |= {"reward": reward, "cost_weight": cost_weight, "max_macs": max_macs, "data_root": data_root}
        if problem is not None and not isinstance(problem, Problem):
            raise InvalidValue(f"problem should be a Problem, got {shown(problem)}.")
        self.problem = problem = _make_problem(settings) if problem is None else _alone(problem, settings)
        self.config, self.cost, self.topology = problem.config, problem.cost, problem.topology
        self.macs_limit = problem.macs_limit

        self.rules = Rules(self.cost, Decision(decision), self.macs_limit)
        self.observer = _make_observer(Observation(observation), self.rules, problem)
        self.observation_space = self.observer.space
        slots = self.rules.slots
        self._is_single = self.rules.decision is Decision.CONNECTION
        self.action_space = spaces.Discrete(2) if self._is_single else spaces.MultiDiscrete([2] * slots)
        self.connections = np.vstack([self.topology.connections, np.full((1, 3), -1)])  # int64[E + 1, 3], last: none
        self._counts = [np.int64(count) for count in range(slots + 1)]  # made once: faster than one by one
        self._episode: Episode | None = None

    # Gymnasium's API

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of `np_random`, which this environment does not use.
            options: None, or {"decided": integers [E]}, see Starting State.

        Raises:
            UnknownName, InvalidValue: another option, or bits that an episode cannot start from.
        """
        super().reset(seed=check(seed, Count | None, "seed"))
        self._episode = Episode(self.rules, self._given(options))
        observation = self.observer(self._episode, self.problem.objective.cost_weight)
        info = self._info(self._episode, np.full(self.rules.slots, UNDECIDED, np.int8), 0)
        if self.render_mode == "human":
            self.render()
        return observation, info

    def step(self, action: Any) -> tuple[NDArray[Any], float, bool, bool, dict[str, Any]]:
        """Decide the next connections; see Action Space, Rewards, Information.

        Raises:
            ResetNeeded: before the first reset, or after the end.
            InvalidValue: an action outside the action space.
        """
        episode = self._running()
        result = episode.apply(self._bits(action))
        over = not episode.next_step.bits
        weight = self.problem.objective.cost_weight
        reward = 0.0 - weight * (result.spent / self.rules.skip_macs)
        info = self._info(episode, result.executed, result.overruled)
        if over:
            ((final_reward, metrics),) = self.score_episodes(episode.decisions[None] == 1)
            reward += final_reward
            info |= metrics
        if self.render_mode == "human":
            self.render()
        return self.observer(episode, weight), reward, over, False, info

    def render(self) -> Any:
        """Render the current state: str, uint8[height, width, 3], or printed (None), by the render mode."""
        if self.render_mode is None:
            gym.logger.warn("render() shows nothing without a render_mode: gym.make(..., render_mode='ansi').")
            return None
        episode = self._started()
        return self.render_state(episode.decisions, [index for _, index in episode.next_step.bits], episode.macs)

    def render_state(self, decisions: Int8Array, up_next: Sequence[int], macs: int) -> Any:
        """Render `decisions` int8[E], which need `macs`; connections `up_next` are decided next."""
        if self.render_mode == "rgb_array":
            return render.rgb_array(self.topology, decisions, up_next)
        share = f"relative MACs {macs / self.cost.dense_macs:.3f}"
        limit = "" if self.macs_limit is None else f" of at most {self.macs_limit / self.cost.dense_macs:.3f}"
        frame = render.ansi(self.topology, decisions, up_next, share + limit)
        if self.render_mode == "ansi":
            return frame
        print(frame)
        return None

    def close(self) -> None:
        """Release the evaluator's threads and files; they are opened again on demand."""
        self.problem.close()

    # Beside Gymnasium's API

    def action_masks(self) -> BoolArray:
        """Return bool[sum(nvec)] (2 for Discrete(2)): which actions are legal, in the order drop0, keep0, drop1, ..."""
        return self._started().action_mask().astype(np.bool_)

    def sample_mask(self) -> Int8Array | tuple[Int8Array, ...]:
        """Return the mask for `action_space.sample`: int8[2], or a tuple of them for MultiDiscrete."""
        mask = self._started().action_mask()
        return mask if self._is_single else tuple(mask.reshape(-1, 2))

    def architecture(self, decisions: Any) -> Architecture:
        """Return the architecture of complete decisions int [E], as the last step's `info["decisions"]` holds them.

        Raises:
            InvalidValue: wrong shape, or undecided connections among them.
        """
        return self.problem.architecture(self.topology.check_masks(decisions))

    def score_episodes(self, masks: BoolArray) -> list[tuple[float, dict[str, Any]]]:
        """Return what episodes that end with masks bool [n, E] are paid before cost, and what `info` adds there.

        One call of the evaluator; each mask is counted as an evaluation.
        """
        metrics = self.problem.evaluator.evaluate_checked(masks)
        return [(self.problem.objective.reward(each), _numbers(each)) for each in metrics]

    # Inside

    def _given(self, options: Mapping[str, Any] | None) -> Int8Array | None:
        """Return the decisions int8[E] in `options`, or None."""
        if options is None:
            return None
        check_options(options)
        for name in options:
            if name != "decided":
                raise unknown_name("reset option", name, ["decided"])
        return self.rules.check_initial(options["decided"]) if options else None

    def _started(self) -> Episode:
        """Return the episode, which may be over."""
        if self._episode is None:
            raise ResetNeeded("there is no episode yet: call reset() first.")
        return self._episode

    def _running(self) -> Episode:
        """Return the episode, if it is not over."""
        episode = self._started()
        if not episode.next_step.bits:
            raise ResetNeeded("the episode is over, every connection is decided: call reset() before the next step().")
        return episode

    def _bits(self, action: Any) -> Sequence[int]:
        """Return the S bits of an action."""
        try:
            array = as_array("an action", action)
            if array.dtype.kind in "iub":
                if self._is_single and array.size == 1 and array.ndim <= 1:
                    bits = [array.item()]
                else:
                    bits = array.tolist() if array.shape == (self.rules.slots,) else []
                if bits and min(bits) >= 0 and max(bits) <= 1:
                    return bits
        except InvalidValue:  # no array: said below with what is wanted
            pass
        entries = "one integer" if self._is_single else f"{self.rules.slots} integers"
        raise InvalidValue(
            f"with decision '{self.rules.decision}' an action is {entries}, 0 (drop) or 1 (keep); got {shown(action)}."
        )

    def _info(self, episode: Episode, executed: Int8Array, overruled: int) -> dict[str, Any]:
        """Return the info of any step."""
        bits = episode.next_step.bits
        return {
            "action_mask": episode.action_mask(),
            "decisions": episode.decisions.copy(),
            "connection": self.connections[bits[0][1] if bits else -1].copy(),
            "executed": executed,
            "overruled": self._counts[overruled],
        }


def check_options(options: object) -> None:
    """Check that the options of a reset are a mapping.

    Raises:
        InvalidValue: anything else.
    """
    if not isinstance(options, Mapping):
        raise InvalidValue(f"options of reset are a dict, as {{'decided': ...}}, or None; got {shown(options)}.")


def _numbers(metrics: Metrics) -> dict[str, Any]:
    """Return metrics as numpy numbers by name."""
    return {name: _NUMPY_TYPES[name](value) for name, value in vars(metrics).items()}


def _make_problem(settings: dict[str, Any]) -> Problem:
    """Make the problem of an environment; evaluations are stored in memory, but for those of an evaluator object."""
    if settings["store"] is None and (settings["evaluator"] is None or isinstance(settings["evaluator"], str)):
        settings["store"] = IN_MEMORY
    return make_problem(**settings)


def _make_observer(observation: Observation, rules: Rules, problem: Problem) -> AnyObserver:
    """Make what makes the observations."""
    if observation is Observation.MATRIX:
        return MatrixObserver(rules)
    if observation is Observation.FLAT:
        return FlatObserver(rules)
    if problem.network is None:
        raise InvalidValue(
            f"observation 'features' shows what is known of a trained network, and {problem.name} has none: use "
            "'matrix' or 'flat', or a task that was trained."
        )
    return FeaturesObserver(rules, problem.features)


def _alone(problem: Problem, settings: Mapping[str, Any]) -> Problem:
    """Return a given problem, if nothing that it has was given beside it."""
    defaults = inspect.signature(DenseNetSparsifyEnv).parameters
    others = [name for name, value in settings.items() if value is not defaults[name].default]
    if others:
        raise InvalidValue(f"a problem has {', '.join(others)} of its own: give either a problem or these.")
    return problem
