"""The vector environment: N episodes of `DenseNetSparsifyEnv` as arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from ads_gym.envs.env import DenseNetSparsifyEnv, check_options
from ads_gym.envs.vector_episodes import Episodes
from ads_gym.errors import InvalidValue, ResetNeeded, shown, unknown_name
from ads_gym.records import Environments, check
from ads_gym.topology import UNDECIDED, BoolArray, Int8Array, IntArray, as_array

Floats = NDArray[np.float64]
PER_ENV = ("action_masks", "sample_mask", "render")  # methods that `call` calls for each environment


class DenseNetSparsifyVectorEnv(VectorEnv[NDArray[Any], Any, NDArray[Any]]):
    """N episodes as arrays; all that end in a step are evaluated in one call, in environment order.

    Observations, rewards and infos equal those of a `SyncVectorEnv` of N `DenseNetSparsifyEnv` to the bit; infos are
    arrays with a mask `_key` beside each. See `DenseNetSparsifyEnv` for what they mean. (The differences: wrong use
    raises an `ads_gym.AdsGymError` here, `options` are left as they were, and there is one `np_random`.)

    ```python
    gym.make_vec("ads_gym:DenseNetSparsify-v0", num_envs=64, task="digits", autoreset_mode="SameStep")
    ```

    Args:
        num_envs: N.
        autoreset_mode: what follows an episode's end. `AutoresetMode.NEXT_STEP` (default): the environment's next step
            is its reset, whatever the action; SAME_STEP: it is reset at once, the end is in `final_obs` and
            `final_info`; DISABLED: whoever steps resets, by `reset(options={"reset_mask": bool[N]})`.
        keywords: of `DenseNetSparsifyEnv`.

    Attributes:
        template: a single environment that is never stepped: its spaces, rules and problem are everybody's.

    Raises:
        AdsGymError: wrong arguments.
    """

    def __init__(
        self, num_envs: int = 1, *, autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP, **keywords: Any
    ) -> None:
        modes = [mode.value for mode in AutoresetMode]
        if not isinstance(autoreset_mode, str | AutoresetMode) or autoreset_mode not in [*AutoresetMode, *modes]:
            raise unknown_name("autoreset mode", autoreset_mode, modes)
        self.template = template = DenseNetSparsifyEnv(**keywords)
        self.num_envs = check(num_envs, Environments, "num_envs")
        self.autoreset_mode = self._mode = AutoresetMode(autoreset_mode)
        self.metadata = {**template.metadata, "autoreset_mode": self._mode}
        self.render_mode = template.render_mode
        self.single_observation_space, self.single_action_space = template.observation_space, template.action_space
        self.observation_space = batch_space(template.observation_space, self.num_envs)
        self.action_space = batch_space(template.action_space, self.num_envs)
        self.problem = template.problem
        self.config, self.cost, self.topology, self.macs_limit = (
            template.config,
            template.cost,
            template.topology,
            template.macs_limit,
        )
        self._episodes: Episodes | None = None
        self._display = template.observer.display(self.num_envs)
        self._over = np.zeros(self.num_envs, np.bool_)  # whose last step was an episode's end, and no reset came since

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return an attribute, or the result of a method, for each environment; shared ones are computed once."""
        found = getattr(self if name in PER_ENV else self.template, name)
        found = found(*args, **kwargs) if callable(found) else found
        return tuple(found) if name in PER_ENV else (found,) * self.num_envs

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return an attribute for each environment."""
        return self.call(name)

    # Gymnasium's API

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Start episodes.

        Args:
            seed: of `np_random`, which this environment does not use; of N seeds the first.
            options: None, or `decided`, integers [E] or [N, E], see Starting State; or `reset_mask` bool[N], which
                environments are reset (default: all), so that the others go on, and show what they showed.

        Raises:
            UnknownName, InvalidValue: another option, bits that an episode cannot start from, or a wrong mask or seed.
            ResetNeeded: a mask before all have been reset once.
        """
        options = {} if options is None else options
        check_options(options)
        which, given = self._which(options), self._given(options)
        super().reset(seed=self._seed(seed))
        weight = self.problem.objective.cost_weight
        if self._episodes is None:
            if not which.all():
                raise ResetNeeded("there are no episodes yet: call reset() without a reset_mask first.")
            self._episodes = Episodes(self.template.rules, self.num_envs)
        self._restart(self._episodes, np.flatnonzero(which), given)
        self._over = self._over & ~which
        infos = self._infos(self._episodes, *self._no_action())
        if not which.all():
            for array in infos.values():
                array[~which] = 0
        self._render_human()
        return self._display(self._episodes, weight), _with_masks(infos, which)

    def step(self, actions: Any) -> tuple[NDArray[Any], Floats, BoolArray, BoolArray, dict[str, Any]]:
        """Decide the next connections in each environment.

        Args:
            actions: integers [N] (decision "connection") or [N, S], 0 (drop) or 1 (keep).

        Raises:
            ResetNeeded: before the first reset; with autoreset disabled, after an end; in any mode, after a step whose
                evaluation failed.
            InvalidValue: actions outside the action space; then nothing has changed.
        """
        episodes, over, weight = self._running(), self._over, self.problem.objective.cost_weight
        results = episodes.apply(self._bits(actions))
        self._display.update(results)
        if over.any():  # this step is their reset, and the action did nothing there
            self._restart(episodes, np.flatnonzero(over), None)
            self._over = np.zeros_like(over)
        ended = episodes.over
        rewards = 0.0 - weight * (results.spent / self.template.rules.skip_macs)
        infos = self._infos(episodes, results.executed, results.overruled)
        if not ended.any():
            infos = _with_masks(infos)
        else:
            rewards_at_end, final = self._score_ended(episodes, ended)
            rewards[ended] += rewards_at_end
            if self._mode is AutoresetMode.SAME_STEP:
                infos = self._restart_ended(episodes, ended, infos, final)
            else:
                self._over = ended  # not before they are scored: that may fail
                infos = _with_masks(infos) | final
        self._render_human()
        return self._display(episodes, weight), rewards, ended.copy(), np.zeros(self.num_envs, np.bool_), infos

    def render(self) -> tuple[Any, ...]:
        """Render each environment, as `DenseNetSparsifyEnv.render` does."""
        episodes = self._started()
        up_next = [row[row < self.topology.size].tolist() for row in episodes.index]
        if self.render_mode is None:
            return tuple(self.template.render() for _ in up_next)  # which warns
        return tuple(map(self.template.render_state, episodes.decisions, up_next, episodes.macs.tolist()))

    def close_extras(self, **kwargs: Any) -> None:
        """Release the evaluator's threads and files; they are opened again on demand."""
        self.template.close()

    # Beside Gymnasium's API

    def action_masks(self) -> BoolArray:
        """Return bool[N, actions]: which are legal now, in the order drop0, keep0, drop1, ..."""
        return self._started().action_mask().astype(np.bool_)

    def sample_mask(self) -> tuple[Any, ...]:
        """Return the masks for `single_action_space.sample`, for each environment ("connection": of this space)."""
        mask = self._started().action_mask()
        is_single = len(self.action_space.shape or ()) == 1
        return tuple(mask) if is_single else tuple(map(tuple, mask.reshape(len(mask), -1, 2)))

    # Inside

    def _which(self, options: Mapping[str, Any]) -> BoolArray:
        """bool[N]: which environments `options` resets."""
        for name in options:
            if name not in ("decided", "reset_mask"):
                raise unknown_name("reset option", name, ["decided", "reset_mask"])
        if "reset_mask" not in options:
            return np.ones(self.num_envs, np.bool_)
        mask = options["reset_mask"]
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise InvalidValue(f"'reset_mask' is a bool array of shape ({self.num_envs},), got {shown(mask)}.")
        if not mask.any():
            raise InvalidValue("'reset_mask' resets nothing: at least one entry must be True.")
        return mask

    def _given(self, options: Mapping[str, Any]) -> Int8Array | None:
        """int8[N, E]: the bits that `options` gives, or None."""
        if "decided" not in options:
            return None
        shape = (self.num_envs, self.topology.size)
        given = self.template.rules.check_initial_rows(options["decided"])
        if given.shape not in (shape, shape[1:]):
            raise InvalidValue(f"'decided' has shape {shape[1:]} or {shape}, got {given.shape}.")
        return np.broadcast_to(given, shape)

    def _seed(self, seed: int | Sequence[int | None] | None) -> int | None:
        """The seed of `np_random`."""
        if seed is None:
            return None
        seeds: list[Any] = list(seed) if isinstance(seed, Sequence | np.ndarray) else [seed] * self.num_envs
        is_right = all(each is None or (isinstance(each, int | np.integer) and each >= 0) for each in seeds)
        if not is_right or len(seeds) != self.num_envs:
            raise InvalidValue(
                f"seeds are one number from 0 on or a sequence of {self.num_envs}, one for each environment; "
                f"got {shown(seed)}."
            )
        return None if seeds[0] is None else int(seeds[0])

    def _started(self) -> Episodes:
        """Return the episodes, some of which may be over."""
        if self._episodes is None:
            raise ResetNeeded("there are no episodes yet: call reset() first.")
        return self._episodes

    def _running(self) -> Episodes:
        """Return the episodes, if they can be stepped."""
        episodes = self._started()
        unscored = np.flatnonzero(episodes.over & ~self._over).tolist()
        if unscored:
            raise ResetNeeded(
                f"the episodes of environments {unscored} are decided but not scored, their evaluation failed: "
                "call reset() before the next step()."
            )
        if self._mode is AutoresetMode.DISABLED and self._over.any():
            raise ResetNeeded(
                f"the episodes of environments {np.flatnonzero(self._over).tolist()} are over, every connection is "
                "decided: call reset(options={'reset_mask': ...}) before the next step()."
            )
        return episodes

    def _bits(self, actions: Any) -> NDArray[Any]:
        """[N, S], the bits of actions."""
        shape = self.action_space.shape
        try:
            array = as_array("actions", actions)
            if array.dtype.kind in "iub" and array.shape == shape and not (array >> 1).any():  # 2, 3, -1 leave bits
                return array.reshape(self.num_envs, -1)
        except InvalidValue:  # no array: said below with what is wanted
            pass
        raise InvalidValue(
            f"with decision '{self.template.rules.decision}' the actions of {self.num_envs} environments are integers "
            f"of shape {shape}, 0 (drop) or 1 (keep); got {shown(actions)}."
        )

    def _no_action(self) -> tuple[Int8Array, IntArray]:
        """Return `executed` int8[N, S] and `overruled` int64[N] of a reset."""
        executed = np.full((self.num_envs, self.template.rules.slots), UNDECIDED, np.int8)
        return executed, np.zeros(self.num_envs, np.int64)

    def _restart(self, episodes: Episodes, rows: IntArray, given: Int8Array | None) -> None:
        """Restart episodes `rows` [k], with their rows of `given` int8[N, E]."""
        episodes.reset(rows, None if given is None else given[rows])
        self._display.reset(rows, episodes)

    def _infos(self, episodes: Episodes, executed: Int8Array, overruled: IntArray) -> dict[str, Any]:
        """Return the infos of any step, as arrays [N, ...]."""
        return {
            "action_mask": episodes.action_mask(),
            "decisions": episodes.decisions.copy(),
            "connection": self.template.connections[episodes.first],
            "executed": executed,
            "overruled": overruled,
        }

    def _score_ended(self, episodes: Episodes, ended: BoolArray) -> tuple[list[float], dict[str, Any]]:
        """What the ends of this step are paid before cost, and what they add to the infos, masks included."""
        endings = self.template.score_episodes(episodes.decisions[ended] == 1)
        infos: dict[str, Any] = {}
        for key, first in endings[0][1].items():
            infos[key] = np.full(self.num_envs, None if isinstance(first, str) else type(first)(0))
            infos[key][ended] = [metrics[key] for _, metrics in endings]
        return [reward for reward, _ in endings], _with_masks(infos, ended)

    def _restart_ended(
        self, episodes: Episodes, ended: BoolArray, infos: dict[str, Any], metrics: dict[str, Any]
    ) -> dict[str, Any]:
        """The infos of a step with ends, in mode SAME_STEP: the ends are put aside, and their environments reset."""
        rows, last = np.flatnonzero(ended), self._display(episodes, self.problem.objective.cost_weight)
        final = {key: array.copy() for key, array in infos.items()}
        for array in final.values():
            array[~ended] = 0
        observations = np.full(self.num_envs, None)
        for row in rows:
            observations[row] = last[row].copy()
        self._restart(episodes, rows, None)
        executed, overruled = infos["executed"], infos["overruled"]
        executed[ended], overruled[ended] = UNDECIDED, 0
        aside = {"final_obs": observations, "final_info": _with_masks(final, ended) | metrics}
        return _with_masks(aside, ended) | _with_masks(self._infos(episodes, executed, overruled))

    def _render_human(self) -> None:
        """Print all environments in render mode "human"."""
        if self.render_mode == "human":
            self.render()


def _with_masks(infos: dict[str, Any], which: BoolArray | None = None) -> dict[str, Any]:
    """Gymnasium's vector form: beside each entry `_key`, a bool[N] that says whose it is (None: everybody's)."""
    masked = {}
    for key, array in infos.items():
        masked[key] = array
        masked[f"_{key}"] = np.ones(len(array), np.bool_) if which is None else which.copy()
    return masked
