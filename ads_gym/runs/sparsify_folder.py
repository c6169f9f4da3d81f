"""What the steps of a `sparsify` leave: in its run folder, so that the same call goes on; or in memory only."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ads_gym import files
from ads_gym.architecture import Architecture
from ads_gym.errors import DamagedFile, InvalidValue, NotFound
from ads_gym.limits import MAX_TENSORS_BYTES
from ads_gym.nets.sparse import SparseDenseNet, load, save, saved_files
from ads_gym.runs.folder import REPORT, RunFolder
from ads_gym.runs.identity import Identity
from ads_gym.runs.sparsify_record import FILE, RECORD, SparsifyRecord, Stage, StageName

BEST = "best"  # the final network's files, without their endings
SEARCH = "search"  # folder of the search


class Steps:
    """The record of a run and the networks that its steps left.

    Args:
        record: so far.
        folder: of the run; None: nothing is written.
    """

    def __init__(self, record: SparsifyRecord, folder: Path | None) -> None:
        self.record, self.folder = record, folder

    def note(self, **changes: Any) -> None:
        """Change entries of the record, and write it; a page that shows it otherwise goes."""
        self.record = replace(self.record, **changes)
        if self.folder is not None:
            with suppress(OSError):  # a folder of that name is told when the page is written
                (self.folder / REPORT).unlink(missing_ok=True)
            RECORD.write(self.folder / FILE, self.record)

    def add(self, stage: Stage, network: SparseDenseNet | None = None, name: str = BEST) -> None:
        """Note a stage.

        Args:
            stage: replaces one of its name.
            network: that is kept for the same call after a kill, in files of this name; None: none.
            name: of the files.
        """
        stages = (*(each for each in self.record.stages if each.name != stage.name), stage)
        self.note(stages=stages, files=self._saved(network, name))

    def reject(self, stage: Stage, network: SparseDenseNet) -> None:
        """Note a stage that made nothing better, and keep the network before it as the final one."""
        self.note(rejected=stage, files=self._saved(network, BEST))

    def _saved(self, network: SparseDenseNet | None, name: str) -> dict[str, str]:
        """The digests of all files, once a network is saved."""
        digests = dict(self.record.files)
        if network is not None and self.folder is not None:
            written = save(network, self.folder / name)
            digests |= {file.name: _digest(file) for file in written}
        return digests

    def network(self, stage: StageName, name: str = BEST) -> SparseDenseNet | None:
        """The network that a stage left in files of this name; None if it is not there as it was written."""
        if self.folder is None or self.record.stage(stage) is None:
            return None
        written = saved_files(self.folder / name)
        try:
            if all(self.record.files.get(file.name) == _digest(file) for file in written):
                return load(self.folder / name)
        except (NotFound, DamagedFile):
            pass
        return None

    def forget(self, name: str) -> None:
        """Remove the files of a network that nobody needs any more, and what the record says of them."""
        if self.folder is None:
            return
        names = [file.name for file in saved_files(self.folder / name)]
        self.note(files={file: digest for file, digest in self.record.files.items() if file not in names})
        for file in names:
            with suppress(OSError):
                (self.folder / file).unlink(missing_ok=True)

    def architecture(self) -> Architecture | None:
        """What was chosen."""
        chosen = self.record.architecture
        with self.naming():
            return None if chosen is None else Architecture.from_record(chosen)

    def naming(self) -> AbstractContextManager[None]:
        """Errors of values in the record name its file."""
        return nullcontext() if self.folder is None else files.naming(self.folder / FILE, RECORD.what)


@contextmanager
def opened_steps(folder: Path | None, fresh: SparsifyRecord) -> Iterator[Steps]:
    """The steps of a run that begins, or goes on; meanwhile no other process works in its folder.

    Args:
        folder: of the run; None: nothing is written.
        fresh: the record of a run that begins.

    Raises:
        InvalidValue: the folder is another run's, or holds something else.
        DamagedFile, StorageError: a record that cannot be used; a folder that cannot be written, or is in use.
    """
    if folder is None:
        yield Steps(fresh, None)
        return
    with files.locked(folder, "sparsifying"):
        try:
            found = RECORD.read(folder / FILE)
        except NotFound:
            RunFolder(folder).check_empty()
            steps = Steps(fresh, folder)
        else:
            if differences := Identity(fresh.identity).differences(found.identity):
                raise InvalidValue(
                    f"the folder {folder} belongs to a run with {', '.join(differences)}: give the same, or another "
                    "run folder."
                )
            steps = Steps(found, folder)
        yield steps


def _digest(file: Path) -> str:
    return files.digest(file, "file of a network", MAX_TENSORS_BYTES)
