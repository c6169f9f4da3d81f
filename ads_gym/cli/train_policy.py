"""`ads-gym train-policy`: train a policy on a pool of small supernets, for searches on other networks."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ads_gym.cli.options import DeviceOption

if TYPE_CHECKING:
    from ads_gym.evaluators.base import Weights
    from ads_gym.pools.definition import Pool

FOLDER = Path("pool")


def train_policy(  # noqa: PLR0913 - an option each
    *,
    pool: Annotated[Path, typer.Option(help="Definition: a JSON file with a line for each supernet.", metavar="FILE")],
    folder: Annotated[Path, typer.Option(help="Where the supernets are, or are made.")] = FOLDER,
    out: Annotated[Path, typer.Option(help="The policy: OUT.json and OUT.safetensors.")] = Path("policy"),
    kind: Annotated[str, typer.Option(help="recurrent, feedforward or linear.")] = "recurrent",
    inputs: Annotated[str, typer.Option(help="all, shape or shuffled.")] = "all",
    weights: Annotated[str, typer.Option(help="To score supernets with, with commas between.")] = "inherited,repaired",
    updates: Annotated[int, typer.Option(help="Steps of the optimizer.")] = 600,
    seed: Annotated[int, typer.Option(help="Of the policy and of what it draws.")] = 0,
    device: DeviceOption = "cpu",
) -> None:
    """Train a policy on many small supernets, to search others with.

    Supernets that are missing are trained, and all their architectures
    scored: minutes each. If it is interrupted or killed, the same command
    goes on. Search with it: ads-gym search --agent pretrained
    --agent-option policy=OUT
    """
    import numpy as np

    from ads_gym.agents.pretrained.groups import Game
    from ads_gym.agents.pretrained.saving import PretrainedRecord, write_pretrained
    from ads_gym.agents.pretrained.training import TrainingSettings, train
    from ads_gym.agents.pretrained.validation import COUNTS, scores
    from ads_gym.evaluators.base import Weights
    from ads_gym.files import digest, resolve
    from ads_gym.limits import MAX_JSON_BYTES
    from ads_gym.pools.definition import POOL, Role
    from ads_gym.runs.step_lines import StepLines

    settings = TrainingSettings(kind=kind, inputs=inputs, updates=updates, seed=seed)  # type: ignore[arg-type]
    wanted = tuple(map(Weights, filter(None, weights.split(","))))
    definition, place = POOL.read(resolve(pool)), resolve(folder)
    _make(definition, place, wanted, device)
    games = Game.of_pool(definition, place, Role.TRAINING, wanted, settings.inputs)
    with StepLines(True).long("training the policy", "updates") as step:
        network = train(games, settings, step.update)
    names = tuple(member.name for member in definition.of(Role.TRAINING))
    written = PretrainedRecord(settings, tuple(wanted), names, digest(resolve(pool), "pool", MAX_JSON_BYTES))
    write_pretrained(out, written, network)
    print(f"policy  {resolve(out)}")
    for each in wanted:
        found = [
            scores(network, game) for game in Game.of_pool(definition, place, Role.VALIDATION, [each], settings.inputs)
        ]
        told = ", ".join(
            f"{score:.3f} after {count}" for score, count in zip(np.mean(found, axis=0), COUNTS, strict=True)
        )
        print(f"score on {len(found)} validation supernets, {each}: {told}")


def _make(pool: "Pool", folder: Path, weights: "tuple[Weights, ...]", device: str) -> None:
    """Make what is missing of the supernets that training needs, with lines about it on stderr."""
    from ads_gym.pools.definition import Role
    from ads_gym.pools.making import make_member
    from ads_gym.runs.step_lines import StepLines

    members = [*pool.of(Role.TRAINING), *pool.of(Role.VALIDATION)]
    for number, member in enumerate(members, start=1):
        with StepLines(True).long(f"supernet {number} of {len(members)}, {member.name}", "masks") as step:
            make_member(member, folder, weights, step.update, device)
