"""What `sparsify` writes of itself: sparsify.json in its run folder, whole after every step."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import FailFast, Field

from ads_gym.architecture import ArchitectureRecord, DenseNetConfig
from ads_gym.files import is_folder, resolve
from ads_gym.limits import MAX_EVALUATIONS, MAX_STEPS
from ads_gym.nets.scoring import Score
from ads_gym.records import Count, Digest, Format, JsonObject, Name, Number, Seed, Share, Text, checked, record

FILE = "sparsify.json"
StageName = Literal["dense", "inherited", "repaired", "distilled"]
Measured = Literal["accuracy", "agreement"]  # with the labels, or with the dense network's predictions


Order = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(fail_fast=True)]


@record
class Channels:
    """In which order a network has its channels, those that are needed most first: where each of them was."""

    nodes: Annotated[
        tuple[Annotated[tuple[Order, ...], Field(fail_fast=True)], ...], Field(fail_fast=True)
    ]  # of each block: of its input and of each layer
    bottlenecks: Annotated[tuple[Order, ...], Field(fail_fast=True)]  # of each layer with a bottleneck


@record
class Settings:
    """What was asked for."""

    max_macs: Number  # limit on MACs / dense MACs
    evaluations: Annotated[int, Field(ge=0, le=MAX_EVALUATIONS)]  # of the search; 0: none
    agent: Name | None  # that searched; None: none did
    distil: Annotated[int, Field(ge=0, le=MAX_STEPS)]  # steps of distillation
    seed: Seed
    device: Name  # its kind: "cpu", "cuda"
    max_latency: Number | None = None  # limit on the latency of one image / the dense network's


@record
class Images:
    """How many images did what."""

    calibration: Count  # weights are solved and distilled from them
    valid: Count  # networks are scored on them
    test: Count  # the dense and the final network are scored on them once; 0: there are none
    shape: tuple[Count, Count, Count]  # channels, height, width
    divided: bool  # whether `valid` are a quarter of the images that were given


@record
class Scores:
    """Metrics of a network on images."""

    accuracy: Share  # or agreement
    soft_accuracy: Number  # mean probability of the true class (of that which the dense network predicts)
    loss: Number  # mean cross-entropy, nats


@record
class Stage:
    """A network on the way from the dense one to the result."""

    name: StageName
    valid: Scores
    seconds: Number  # that it took to make it
    macs: Count  # for one image
    parameters: Count

    @property
    def score(self) -> Score:
        """On the validation images."""
        return Score(self.valid.accuracy, self.valid.soft_accuracy, self.valid.loss)


@record
class OnTest:
    """The dense and the final network on the test images, which were read once for each."""

    images: Count
    digest: Digest  # of the images and labels
    measured: Measured
    dense: Scores
    sparse: Scores


@record
class Compared:
    """A network that was not taken, repaired, beside which the result of a search is shown."""

    role: Literal["random", "channels"]  # connections, or what elimination of channels left
    macs: Count  # for one image
    accuracy: Share  # or agreement, on the validation images


@record
class SparsifyRecord:
    """All that is known of a run of `sparsify`; files beside it are best.json and best.safetensors."""

    identity: JsonObject  # what the run is a run of, by name: digests of weights, images, code; settings
    model: Name  # class of the model
    config: DenseNetConfig
    settings: Settings
    measured: Measured
    images: Images
    versions: JsonObject  # of packages and Python, and the machine
    began: Name  # date and time, ISO 8601
    ended: Name | None = None  # None: it is not over
    architecture: ArchitectureRecord | None = None  # None: it is not chosen yet
    channels: Channels | None = None  # None: their own order
    choosing_seconds: Number | None = None
    latency: Number | None = None  # of one image / the dense network's, as timed when it was chosen; None: it was not
    compared: Annotated[tuple[Compared, ...], Field(max_length=64), FailFast()] = ()
    stages: Annotated[tuple[Stage, ...], Field(max_length=4), FailFast()] = ()  # in order
    rejected: Stage | None = None  # the distilled network, where it was no better than the repaired one
    test: OnTest | None = None
    files: Annotated[dict[Text, Digest], Field(max_length=8)] = Field(default_factory=dict)  # SHA-256, by name

    def stage(self, name: StageName) -> Stage | None:
        """A stage, if it was reached."""
        return next((each for each in self.stages if each.name == name), None)

    @property
    def why_rejected(self) -> str:
        """A sentence on the network that was no better."""
        if self.rejected is None:
            return ""
        valid = self.rejected.valid
        return (
            f"{self.settings.distil:,} steps of distillation did not lower the loss on the validation images: it is "
            f"{valid.loss:.4f} after them, at {self.measured} {valid.accuracy:.4f}. So the repaired network was kept."
        )


RECORD = Format("ads-gym sparsify", 2, "record of a sparsification", SparsifyRecord)


@checked
def read_record(run: str | Path) -> SparsifyRecord:
    """Read the record of a run of `sparsify`.

    Args:
        run: its folder, or the file itself.

    Raises:
        NotFound, StorageError: no such file, or one that may not be read.
        DamagedFile: anything else than such a record.
    """
    path = resolve(run)
    return RECORD.read(path / FILE if is_folder(path) else path)
