"""Sparsifying a DenseNet as a Gymnasium environment. Importing this registers the environment and imports no torch."""

import importlib
from typing import Any

import gymnasium

__version__ = "0.1.0"

_PUBLIC = {
    "search": "ads_gym.runs.runner",
    "SearchResult": "ads_gym.runs.runner",
    "load": "ads_gym.nets.sparse",
    "Architecture": "ads_gym.architecture",
    "Task": "ads_gym.tasks",
    "AdsGymError": "ads_gym.errors",
    "BudgetExhausted": "ads_gym.errors",
}
__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """A public name, imported when first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ads_gym' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


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
    kwargs={"observation": "flat"},
)
