"""A run folder in which one process plays: what is solved there, by whom, and what of it is recorded."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from ads_gym import files
from ads_gym.agents.registry import LoadedAgent
from ads_gym.envs.episode import Decision
from ads_gym.errors import AdsGymError, DamagedFile, InvalidValue
from ads_gym.problem import Problem
from ads_gym.runs.folder import (
    Manifest,
    RunFolder,
    check_circumstances,
    check_identity,
    circumstances,
    now,
    place_of,
)
from ads_gym.runs.identity import Identity
from ads_gym.runs.record import Row, RunRecord, best_of, to_csv
from ads_gym.runs.recorder import StoppedBy


@dataclass(frozen=True)
class Job:
    """What is solved, by whom.

    Args:
        problem: what is solved; its evaluator knows nothing of the run.
        agent: who solves it.
        options: its keywords.
        decision: of the environment, where it plays one.
        seed: of the agent.
    """

    problem: Problem
    agent: LoadedAgent
    options: Mapping[str, Any]
    decision: Decision
    seed: int


@dataclass
class OpenRun:
    """A run folder while one process plays in it."""

    folder: RunFolder
    job: Job
    manifest: Manifest
    problem: Problem  # its evaluator looks up and stores metrics, and counts no evaluations
    may_differ: bool  # whether a replay may ask for other masks than the record has
    record: RunRecord
    rows: list[Row]
    stopped_by: StoppedBy = StoppedBy.AGENT
    episodes: int = 0
    charged: int = 0  # evaluations, for what is none
    agent_seconds: float = 0.0  # of CPU, without evaluations

    def write(self, **changes: Any) -> None:
        """Change entries of the manifest."""
        self.manifest = replace(self.manifest, **changes)
        self.folder.write(self.manifest)

    def differ(self, number: int) -> None:
        """Note the first evaluation that a replay did not repeat.

        Raises:
            InvalidValue: the agent may be another one than the record's, for no name stands for it.
        """
        if not self.may_differ:
            raise InvalidValue(
                f"evaluation {number} in {self.folder.path} is of another mask than this agent asks for, and no name "
                f"tells whether {self.job.agent.name} is the agent that it was recorded for: give another run folder, "
                "or restart (restart=True), which keeps the old one under another name."
            )
        self.write(differs_at=self.manifest.differs_at or number)

    def best(self) -> Row:
        """Return the best of what was evaluated.

        Raises:
            InvalidValue: nothing was.
        """
        if self.rows:
            return best_of(self.rows)
        told = f"agent {self.job.agent.name} ended before a single network was evaluated"
        if self.stopped_by is StoppedBy.EVALUATIONS:
            told += (
                f": what it wants to know of the network before that costs more than the {self.manifest.budget} "
                "evaluations of its budget; give more"
            )
        raise InvalidValue(f"{told}.")

    def write_best(self, best: Row) -> None:
        """Write the best architecture so far."""
        mask = self.problem.topology.mask(best.mask)
        weights = self.folder.best.with_suffix(".safetensors")
        with files.file_errors(weights, "removed"):
            weights.unlink(missing_ok=True)  # of an earlier best: never beside this one
        files.write_file(self.folder.best, self.problem.architecture(mask).to_json() + "\n")


@contextmanager
def open_run(folder: RunFolder, job: Job, identity: Identity, evaluations: int) -> Iterator[OpenRun]:
    """Begin a run, or open one that is to go on; nothing is written before all of it is found to fit.

    A run that began here and fails before it recorded anything leaves nothing: what it failed at (an agent's options,
    most often) is put right, and would not fit the folder then.
    """
    with files.locked(folder.path, "searching"):
        circumstances_now = circumstances()
        manifest = folder.read()
        begins = manifest is None
        if manifest is None:
            folder.check_empty()
            manifest = Manifest(identity.parts, evaluations, circumstances_now, now())
        else:
            check_identity(folder.path, manifest, identity)
            if manifest.result is not None and not files.exists(folder.record):
                raise DamagedFile(
                    f"the run in {folder.path} has a result and no {folder.record.name}: bring it back, give another "
                    "run folder, or restart (restart=True), which keeps the old one under another name."
                )
            check_circumstances(folder.path, manifest, circumstances_now)
        opened = None
        try:
            if begins:  # before the record, so that whatever a kill leaves belongs to this run
                folder.write(manifest)
            with RunRecord(folder.record) as record:
                opened = _opened(folder, job, manifest, identity, record, evaluations)
                yield opened
        except Exception:  # after Ctrl-C the same call goes on
            if begins and not (opened and opened.rows):
                with suppress(AdsGymError):  # what went wrong first is what is told
                    folder.remove()
            raise
        finally:
            if opened and opened.rows:
                with suppress(AdsGymError):
                    files.write_file(folder.history, to_csv(opened.rows))


def _opened(
    folder: RunFolder, job: Job, manifest: Manifest, identity: Identity, record: RunRecord, evaluations: int
) -> OpenRun:
    problem = job.problem.stored_in(record)
    may_differ = "agent" not in identity.unnamed
    opened = OpenRun(
        folder,
        job,
        manifest,
        problem,
        may_differ,
        record,
        record.history(problem.evaluator.fingerprint, problem.topology),
    )
    if opened.rows and opened.rows[-1].spent > evaluations:
        raise InvalidValue(
            f"the run in {folder.path} has {opened.rows[-1].spent} evaluations, more than the {evaluations} asked for, "
            "and its agent or reward has no name by which its record could answer: ask for more, or give another "
            "folder."
        )
    task = job.problem.task
    root = getattr(task, "data_root", None)
    opened.write(
        budget=evaluations,
        result=None,
        ended=None,
        data_root=None if root is None else str(root),
        **place_of(task, folder.path),
    )
    return opened
