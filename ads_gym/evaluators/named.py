"""Which evaluator a task gets: inherited accuracy unless told otherwise; what a string like "module:name" means."""

from typing import TYPE_CHECKING

from ads_gym.architecture import DenseNetConfig
from ads_gym.data.spec import Split
from ads_gym.errors import InvalidValue
from ads_gym.evaluators.base import Evaluator
from ads_gym.imports import import_object
from ads_gym.topology import Scope

if TYPE_CHECKING:
    from ads_gym.tasks import Task


def find_evaluator(task: "Task", scope: Scope, device: str = "auto", spec: str | None = None) -> Evaluator:
    """See `Task.evaluator`, which is this."""
    if spec is None and task.data is not None:
        from ads_gym.evaluators.inherited import InheritedEvaluator

        valid = task.images(Split.VALID)
        return InheritedEvaluator(task.supernet(), task.calibration(), valid, scope, device)
    spec = "planted:linear:0" if spec is None else spec
    if spec.partition(":")[0] == "planted":
        return _planted(spec, task.config, scope)
    if ":" not in spec:
        raise InvalidValue(
            f"an evaluator is written 'planted:KIND:SEED' (as planted:linear:0) or 'module:name', got {spec!r}."
        )
    factory = import_object(spec, "evaluator")
    if not callable(factory):
        raise InvalidValue(f"evaluator {spec!r} is {factory!r:.60}, and should be callable as name(task, scope).")
    evaluator = factory(task, scope)
    if not isinstance(evaluator, Evaluator):
        raise InvalidValue(
            f"{spec}(task, scope) gave {evaluator!r:.60}, which is no Evaluator: it needs config, topology, "
            "fingerprint and evaluate(masks)."
        )
    if evaluator.config != task.config or evaluator.topology.scope != scope:
        raise InvalidValue(
            f"{spec}(task, scope) scores masks of {evaluator.config} in scope '{evaluator.topology.scope}', and should "
            f"those of {task.config} in scope '{scope}'."
        )
    return evaluator


def _planted(spec: str, config: DenseNetConfig, scope: Scope) -> Evaluator:
    from ads_gym.evaluators.planted import PlantedEvaluator

    kind, _, seed = spec.removeprefix("planted").removeprefix(":").partition(":")
    if not kind or not (seed.isascii() and seed.isdigit()):
        raise InvalidValue(f"a planted evaluator is written 'planted:KIND:SEED', as planted:linear:0, got {spec!r}.")
    return PlantedEvaluator(config, scope, kind, int(seed))
