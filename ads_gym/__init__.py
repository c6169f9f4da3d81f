"""Sparsifying a DenseNet as a Gymnasium environment. Importing this registers the environment and imports no torch."""

import importlib
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if (
    Path(*sys.argv[:1]).name in ("ads-gym", "ads-gym.exe")
    and threading.current_thread() is threading.main_thread()
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):  # In the command, Ctrl-C during the imports ends the process as it ends any program, and not with a traceback of
    # whatever is being imported. `ads_gym.cli.main` sets the handler back.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import gymnasium

__version__ = "0.1.0"

__all__ = [
    "AdsGymError",
    "Agent",
    "Architecture",
    "BudgetExhausted",
    "Evaluator",
    "Metrics",
    "Optimiser",
    "Problem",
    "SearchResult",
    "Task",
    "__version__",
    "allow_large",
    "load",
    "make_problem",
    "search",
    "sparsify",
]

if TYPE_CHECKING:
    from ads_gym.agents.base import Agent, Optimiser
    from ads_gym.architecture import Architecture
    from ads_gym.compression.sparsify import sparsify
    from ads_gym.errors import AdsGymError, BudgetExhausted
    from ads_gym.evaluators.base import Evaluator, Metrics
    from ads_gym.limits import allow_large
    from ads_gym.nets.sparse import load
    from ads_gym.problem import Problem, make_problem
    from ads_gym.runs.runner import SearchResult, search
    from ads_gym.tasks import Task
else:
    _MODULES = {
        "AdsGymError": "ads_gym.errors",
        "Agent": "ads_gym.agents.base",
        "Architecture": "ads_gym.architecture",
        "BudgetExhausted": "ads_gym.errors",
        "Evaluator": "ads_gym.evaluators.base",
        "Metrics": "ads_gym.evaluators.base",
        "Optimiser": "ads_gym.agents.base",
        "Problem": "ads_gym.problem",
        "SearchResult": "ads_gym.runs.runner",
        "Task": "ads_gym.tasks",
        "allow_large": "ads_gym.limits",
        "load": "ads_gym.nets.sparse",
        "make_problem": "ads_gym.problem",
        "search": "ads_gym.runs.runner",
        "sparsify": "ads_gym.compression.sparsify",
    }

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first used."""
        if name not in _MODULES:
            raise AttributeError(f"module 'ads_gym' has no attribute {name!r}")
        return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


gymnasium.register(
    id="DenseNetSparsify-v0",
    entry_point="ads_gym.envs.env:DenseNetSparsifyEnv",
    vector_entry_point="ads_gym.envs.vector:DenseNetSparsifyVectorEnv",
)
gymnasium.register(
    id="DenseNetSparsifyFlat-v0",
    entry_point="ads_gym.envs.env:DenseNetSparsifyEnv",
    vector_entry_point="ads_gym.envs.vector:DenseNetSparsifyVectorEnv",
    kwargs={"observation": "flat", "reward": "soft", "cost_weight": "even"},
)
