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
    from ads_gym.agents.pretrained.on_pool import mean_scores, train_on_pool
    from ads_gym.agents.pretrained.saving import write_pretrained
    from ads_gym.agents.pretrained.training import TrainingSettings
    from ads_gym.agents.pretrained.validation import COUNTS
    from ads_gym.evaluators.base import Weights
    from ads_gym.files import resolve
    from ads_gym.pools.definition import POOL
    from ads_gym.runs.step_lines import StepLines

    settings = TrainingSettings(kind=kind, inputs=inputs, updates=updates, seed=seed)  # type: ignore[arg-type]
    wanted = tuple(Weights(each) for each in weights.split(","))
    _make(POOL.read(resolve(pool)), resolve(folder), wanted, device)
    with StepLines(True).long("training the policy", "updates") as step:
        trained = train_on_pool(pool, folder, wanted, settings, step.update)
    write_pretrained(out, *trained)
    print(f"policy  {resolve(out)}")
    for each in wanted:
        found = zip(mean_scores(trained, pool, folder, each), COUNTS, strict=True)
        told = ", ".join(f"{score:.3f} after {count}" for score, count in found)
        print(f"score   {told} (validation supernets, {each} weights)")


def _make(pool: "Pool", folder: Path, weights: "tuple[Weights, ...]", device: str) -> None:
    """Make what is missing of the supernets that training needs, with lines about it on stderr."""
    from ads_gym.pools.definition import Role
    from ads_gym.pools.making import make_member
    from ads_gym.runs.step_lines import StepLines

    members = [*pool.of(Role.TRAINING), *pool.of(Role.VALIDATION)]
    for number, member in enumerate(members, start=1):
        with StepLines(True).long(f"supernet {number} of {len(members)}, {member.name}", "masks") as step:
            make_member(member, folder, weights, step.update, device)
