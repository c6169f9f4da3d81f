"""Train a policy on the supernets of a pool, and score it on others of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ads_gym.agents.base import Floats
from ads_gym.agents.pretrained.groups import Game
from ads_gym.agents.pretrained.network import PolicyNetwork
from ads_gym.agents.pretrained.saving import PretrainedRecord
from ads_gym.agents.pretrained.training import Progress, TrainingSettings, train
from ads_gym.agents.pretrained.validation import scores
from ads_gym.evaluators.base import Weights
from ads_gym.files import digest, resolve
from ads_gym.limits import MAX_JSON_BYTES
from ads_gym.pools.definition import POOL, Role


class Trained(NamedTuple):
    """A policy, and what is written of it."""

    record: PretrainedRecord
    network: PolicyNetwork


def train_on_pool(
    pool: Path | str,
    folder: Path | str,
    weights: Sequence[Weights],
    settings: TrainingSettings,
    progress: Progress | None = None,
) -> Trained:
    """Train a policy on the training supernets of a pool.

    Args:
        pool: file with the definition.
        folder: where its supernets were made.
        weights: with which their architectures were scored.
        settings: of the training.
        progress: called after every update.

    Raises:
        NotFound, InvalidValue: a supernet that was not made, or has no table of such weights.
    """
    path = resolve(pool)
    definition = POOL.read(path)
    games = Game.of_pool(definition, resolve(folder), Role.TRAINING, weights, settings.inputs)
    names = tuple(member.name for member in definition.of(Role.TRAINING))
    record = PretrainedRecord(settings, tuple(weights), names, digest(path, "pool of supernets", MAX_JSON_BYTES))
    return Trained(record, train(games, settings, progress))


def mean_scores(trained: Trained, pool: Path | str, folder: Path | str, weights: Weights) -> Floats:
    """Return the scores of a policy on the validation supernets of a pool, a mean for each of `COUNTS`.

    Args:
        trained: the policy.
        pool, folder: see `train_on_pool`.
        weights: with which architectures were scored.
    """
    inputs = trained.record.settings.inputs
    games = Game.of_pool(POOL.read(resolve(pool)), resolve(folder), Role.VALIDATION, [weights], inputs)
    return np.asarray(np.mean([scores(trained.network, game) for game in games], axis=0))
