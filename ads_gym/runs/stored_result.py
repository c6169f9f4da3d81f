"""Return the result of a search from the record of an earlier run, without running it again."""

from collections.abc import Sequence

from ads_gym import files
from ads_gym.errors import InvalidValue
from ads_gym.problem import Problem
from ads_gym.runs.comparison import compare
from ads_gym.runs.folder import Manifest, RunFolder, check_identity
from ads_gym.runs.identity import Identity
from ads_gym.runs.record import Row, RunRecord, best_of
from ads_gym.runs.recorder import EPISODES_PER_EVALUATION, StoppedBy
from ads_gym.runs.result import SearchResult, Stored


def stored_result(
    folder: RunFolder, identity: Identity, problem: Problem, evaluations: int, seed: int
) -> SearchResult | None:
    """Return the result of a search of this budget, if the record has it; else None.

    A run with an agent or a reward that no name stands for is always played again: the agent may be another one. (The
    record answers for the evaluations that it has.)

    Raises:
        InvalidValue: the folder is another run's.
    """
    manifest = folder.read()
    if manifest is None:
        return None
    check_identity(folder.path, manifest, identity)
    if identity.unnamed:
        return None
    if manifest.result is not None and manifest.budget == evaluations:
        if not folder.has_results(problem.network is not None):
            return None  # played again from the record, it writes them anew
        with files.naming(folder.manifest, "manifest of a run"):
            result = SearchResult.from_record(folder.path, manifest.result, manifest.ended or manifest.began)
            if (result.architecture.config, result.architecture.scope) != (problem.config, problem.topology.scope):
                raise InvalidValue("its result is of another network.")
        return result
    if manifest.budget <= evaluations or not files.exists(folder.record):
        return None
    with RunRecord(folder.record) as record:
        return _shorter_result(folder, manifest, problem, record, evaluations, seed)


def _shorter_result(
    folder: RunFolder, manifest: Manifest, problem: Problem, record: RunRecord, evaluations: int, seed: int
) -> SearchResult | None:
    """The result of a run of fewer evaluations, from the first rows of a longer one; None if it has not come so far."""
    rows = record.history(problem.evaluator.fingerprint, problem.topology)
    episodes, stopped_by = _end(rows, folder, manifest, evaluations)
    if stopped_by is None:
        return None
    kept = [row for row in rows if row.spent <= evaluations]
    if manifest.differs_at is None:  # else episodes were counted by several processes that did not repeat each other
        kept = [row for row in kept if row.episode <= episodes]
    if rows[0].spent > evaluations:
        raise InvalidValue(
            f"the run in {folder.path} scores its first network after {rows[0].charged} evaluations of its budget "
            f"(what its agent wants to know before costs as much), and {evaluations} were asked for: ask for more."
        )
    if not kept:  # of episodes that cannot be
        return None
    best = best_of(kept)
    problem = problem.stored_in(record)
    architecture = problem.architecture(problem.topology.mask(best.mask))
    return SearchResult(
        folder.path,
        architecture,
        best.metrics,
        best.objective,
        len(kept),
        episodes,
        stopped_by,
        compare(problem, architecture.mask, seed),
        Stored(manifest.ended or manifest.began, len(rows)),
        _charged(rows, kept, evaluations),
    )


def _charged(rows: Sequence[Row], kept: Sequence[Row], evaluations: int) -> int:
    """What a run of fewer evaluations was charged: after its last evaluation too, if the budget had room for that."""
    later = rows[len(kept)].charged if len(kept) < len(rows) else kept[-1].charged
    return later if len(kept) + later <= evaluations else kept[-1].charged


def _end(rows: Sequence[Row], folder: RunFolder, manifest: Manifest, evaluations: int) -> tuple[int, StoppedBy | None]:
    """Episodes that a run of fewer evaluations has, and why it ends; None if the record does not reach its end."""
    most = EPISODES_PER_EVALUATION * evaluations
    beyond = next((row for row in rows if row.spent > evaluations), None)
    if beyond is not None:
        episodes = beyond.episode - 1
        return (episodes, StoppedBy.EVALUATIONS) if episodes < most else (most, StoppedBy.EPISODES)
    if manifest.result is None or not rows:
        return 0, None
    whole = manifest.result
    return (most, StoppedBy.EPISODES) if whole.episodes >= most else (whole.episodes, whole.stopped_by)
