"""The command that makes the same run again, from its manifest."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from ads_gym.errors import AdsGymError, DamagedFile
from ads_gym.evaluators.base import Weights
from ads_gym.nets.cost import CostTable
from ads_gym.problem import macs_limit
from ads_gym.records import parse_json
from ads_gym.runs.folder import Manifest
from ads_gym.runs.result import SearchResult

MAX_COMMAND = 2_000  # characters: longer ones are no help to anybody
MAX_DIGITS = 17  # that tell any two floats apart
DEFAULTS = {  # options that are left out where they are these
    "--cost-weight": "even",
    "--reward": "soft",
    "--weights": "repaired",
    "--scope": "layers",
    "--decision": "connection",
}


def weights_of(manifest: Manifest, result: SearchResult) -> Weights | None:
    """With which weights the search scored; None where its metrics are not those of a task's network."""
    if result.table[-1].inherited_accuracy is None:
        return None
    return Weights.REPAIRED if "repaired" in str(manifest.identity.get("settings")) else Weights.INHERITED


def search_command(manifest: Manifest, result: SearchResult) -> str | None:
    """Return the command, in lines; None where none says the same: an evaluator or an agent that has no name.

    Args:
        manifest: of the run.
        result: of the run.
    """
    identity = manifest.identity
    named = {name: identity.get(name) for name in ("agent", "reward")}
    weights = weights_of(manifest, result)
    is_planted = str(manifest.task).startswith("planted-")
    options = _options(identity.get("agent's options"))
    if manifest.task is None or not (weights or is_planted) or options is None:
        return None
    if not all(isinstance(name, str) and _is_importable(name) for name in named.values()):
        return None
    values: dict[str, Any] = {
        "--task": manifest.task,
        "--agent": named["agent"],
        "--evaluations": manifest.budget,
        "--seed": identity.get("seed"),
        "--cost-weight": identity.get("cost weight"),
        "--reward": named["reward"],
        "--weights": weights,
        "--scope": result.architecture.scope,
        "--decision": identity.get("decision"),
        "--max-macs": _share(identity.get("limit in MACs"), result),
        "--device": identity.get("device"),
        "--data-root": manifest.data_root,
    }
    given = [f"{name} {shlex.quote(str(value))}" for name, value in values.items() if _is_given(name, value)]
    threads = manifest.circumstances.get("threads")
    prefix = f"OMP_NUM_THREADS={threads} " if isinstance(threads, int) else ""
    lines = [f"{prefix}ads-gym search", *given, *options, "--run again"]
    text = " \\\n  ".join(lines)
    return text if len(text) <= MAX_COMMAND else None


def _is_given(name: str, value: Any) -> bool:
    return value is not None and str(value) != DEFAULTS.get(name)


def _is_importable(name: str) -> bool:
    """Whether another process can find what is called so: no lambda, nothing in a function, nothing typed in."""
    return "<" not in name and not name.startswith("__main__:")


def _options(options: Any) -> list[str] | None:
    """The agent's options; None where the command line has no way to say them."""
    if not isinstance(options, Mapping) or not all(name.isidentifier() for name in options):
        return None
    return [f"--agent-option {shlex.quote(f'{name}={_value(value)}')}" for name, value in options.items()]


def _value(value: Any) -> str:
    """As `parse_options` reads it: JSON, or a text that is none."""
    if isinstance(value, str):
        try:
            parse_json(value)
        except DamagedFile:
            return value
    return json.dumps(value)


def _share(limit: Any, result: SearchResult) -> str | None:
    """The shortest `--max-macs` that makes this limit."""
    cost = CostTable(result.architecture.config, result.architecture.scope)
    if not isinstance(limit, int) or not cost.least_macs <= limit <= cost.dense_macs:
        return None
    for digits in range(1, MAX_DIGITS + 1):
        share = f"{limit / cost.dense_macs:.{digits}g}"
        try:
            if macs_limit(cost, float(share)) == limit:
                return share
        except AdsGymError:  # rounded to less than the chain needs, or to more than 1
            continue
    return None
