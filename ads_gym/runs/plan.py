"""What a search plays: task, evaluator, environment and agent put together, and nothing opened before it is needed."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym

from ads_gym.agents.registry import LoadedAgent
from ads_gym.architecture import Architecture
from ads_gym.data.paths import tasks_home
from ads_gym.envs.env import DenseNetSparsifyEnv
from ads_gym.evaluators.base import Evaluator
from ads_gym.evaluators.planted import PlantedEvaluator
from ads_gym.runs.folder import Settings
from ads_gym.runs.recorder import BudgetedEnv, BudgetedVectorEnv, RecordedEvaluator
from ads_gym.tasks import Task
from ads_gym.tasks.storage import PACKAGED

ENVIRONMENT = "ads_gym:DenseNetSparsify-v0"


class Plan:
    """A game and who plays it.

    Args:
        task: a name, a folder or a `Task`.
        data_root: where data sets lie.
        evaluator: None (the task's), "planted:KIND:SEED", "module:name", or an evaluator.
        game: the environment's keywords scope, device, decision, reward, cost_weight and max_macs.
        agent: who plays.

    Raises:
        AdsGymError: no such task, or keywords that no environment takes.
    """

    def __init__(
        self,
        task: str | Path | Task,
        data_root: str | Path | None,
        evaluator: str | Evaluator | None,
        game: Mapping[str, Any],
        agent: LoadedAgent,
    ) -> None:
        self.task = task if isinstance(task, Task) else Task.load(task, data_root)
        if data_root is not None:
            self.task = replace(self.task, data_root=Path(data_root).expanduser().absolute())
        self.agent = agent
        self._given = evaluator
        self._game = game
        self.referee().close()  # so that bad keywords are found before anything is opened

    def settings(self, seed: int, options: Mapping[str, Any]) -> Settings:
        """What decides how the run goes, as the run folder keeps it; data_root moves no result."""
        evaluator = self._given if self._given is None or isinstance(self._given, str) else self._given.fingerprint
        limit = self._game["max_macs"]
        game = {**self._game, "max_macs": None if limit is None else float(limit), "evaluator": evaluator}
        by_name = self.task.folder in (None, PACKAGED, tasks_home() / self.task.name)
        task = self.task.name if by_name else str(self.task.folder)
        return Settings(task, self.agent.name, options, seed, game)

    def make_evaluator(self) -> Evaluator:
        """What scores masks, without store and record."""
        if self._given is None or isinstance(self._given, str):
            return self.task.evaluator(self._game["scope"], self._game["device"], self._given)
        return self._given

    def referee(self, evaluator: Evaluator | None = None) -> DenseNetSparsifyEnv:
        """An environment that no agent plays in: it knows what a mask scores.

        Args:
            evaluator: what it scores by; None: the one that was asked for.
        """
        return DenseNetSparsifyEnv(**self._keywords(evaluator or self._given))

    def environment(self, record: RecordedEvaluator) -> Any:
        """What the agent plays in: a single environment, or the vector env that it asked for, over one record."""
        wish = {} if self.agent.observation is None else {"observation": self.agent.observation}
        keywords = self._keywords(record, **wish)
        if self.agent.num_envs is None:
            return BudgetedEnv(gym.make(ENVIRONMENT, disable_env_checker=True, **keywords), record)
        return BudgetedVectorEnv(gym.make_vec(ENVIRONMENT, self.agent.num_envs, **keywords), record)

    def has_network(self, architecture: Architecture, evaluator: Evaluator) -> bool:
        """Whether the task's supernet has weights for the architecture, and its metrics were theirs."""
        is_real = self.task.data is not None and not isinstance(evaluator, PlantedEvaluator)
        return is_real and architecture.config == self.task.config

    def _keywords(self, evaluator: str | Evaluator | None, **wish: Any) -> dict[str, Any]:
        """The environment's. Where an evaluator object is given, its network stands in for the task's."""
        if self._given is None or isinstance(self._given, str):
            wish["task"] = self.task
        return {"evaluator": evaluator, **self._game, **wish}
