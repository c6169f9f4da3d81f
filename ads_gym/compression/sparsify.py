"""Model in, smaller model out: `sparsify`."""

import warnings
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, InstanceOf
from torch import nn

from ads_gym.agents.registry import find_agent
from ads_gym.compression.choosing import macs_range
from ads_gym.compression.pipeline import Compressed, compress
from ads_gym.compression.subject import make_subject
from ads_gym.data.given import Transform
from ads_gym.data.given_splits import read_splits
from ads_gym.devices import resolve_device
from ads_gym.errors import AdsGymError, InvalidValue
from ads_gym.files import is_file, resolve
from ads_gym.limits import MAX_CLASSES, MAX_EVALUATIONS, MAX_STEPS
from ads_gym.nets.from_torchvision import unwrapped
from ads_gym.nets.recipe import Distillation
from ads_gym.records import Seed, checked
from ads_gym.reports.html import write_report
from ads_gym.runs.folder import REPORT
from ads_gym.runs.recorder import RunWarning
from ads_gym.runs.sparsify_record import Settings
from ads_gym.runs.step_lines import StepLines


@checked
def sparsify(  # noqa: PLR0913 - its keywords are its user interface
    model: InstanceOf[nn.Module],
    images: Any,
    labels: Any = None,
    *,
    max_macs: float = 0.7,
    max_latency: Annotated[float, Field(gt=0)] | None = None,
    evaluations: Annotated[int, Field(ge=0, le=MAX_EVALUATIONS)] = 0,
    agent: Any = "local",
    distil: Annotated[int, Field(ge=0, le=MAX_STEPS)] | None = None,
    valid: Any = None,
    test: Any = None,
    classes: Annotated[tuple[int, ...], Field(max_length=MAX_CLASSES)] | None = None,
    transform: Transform | None = None,
    device: str = "auto",
    seed: Seed = 0,
    run: Path | str | None = None,
    progress: bool = True,
) -> Compressed:
    """Make a trained DenseNet smaller: choose what to keep, solve the weights again, distil; labels are not needed.

    Each layer reads fewer channels of those before it, and layers with bottlenecks, as torchvision's, become narrower:
    those channels go, by backward elimination, that the others make up for (see `ads_gym.nets.channels`). With
    `evaluations`, an agent also searches for whole connections to drop, and the better of both is taken: of a network
    without bottlenecks all that the limit asks for, of others a tenth. The model is neither changed nor moved: all is
    done with a copy in float32.

    With `run`, the same call after a kill goes on from the last step that ended; a run that is over is read from its
    folder. The order of the images does not matter for that, but a data set that changes them at random does.

    Args:
        model: `torchvision.models.densenet121` and its like, with one Linear that predicts one class of several; or a
            `DenseNet` of ours.
        images: that the model was not trained on: tensors, arrays, a data set, a loader, or a folder of images or class
            folders (see `ads_gym.data.given.read_given`); or a dict of such, "train", "valid" and "test". Of data sets
            and folders 10,000 images are read at most, drawn at random, of loaders the first 10,000; 1 GiB at most.
            Weights are solved from 3,000 of them at most, or 128 of more than 64 pixels.
        labels: int [n], the classes of `images`, where these are a tensor or array; None: those of the data set or
            folder, or the dense network's predictions stand for them.
        max_macs: limit on MACs / dense MACs.
        max_latency: limit on the time of one image / that of the dense network, both folded, measured on `device`;
            fewer MACs are kept if that takes it, and nothing is searched. None: none.
        evaluations: of a search, repaired networks; 0: there is none.
        agent: that searches: see `search`.
        distil: steps of distillation from the dense network, which is kept if it lowers the loss on the validation
            images; 0: none. None: 1000, and 0 for images of more than 64 pixels on a CPU, where each step takes as long
            as many of a small network.
        valid: other images (and labels) on which networks are scored and chosen; None: a quarter of `images`.
        test: images (and labels) on which the dense and the final network are scored once, at the end.
        classes: which of the network's classes label 0 (the first class folder by name) is, and so on; None: the same.
        transform: makes a model's input of uint8 images [n, c, h, w], as `weights.transforms()` of torchvision's.
        device: "auto", "cpu", "cuda".
        seed: of everything that is drawn.
        run: a folder for the record (sparsify.json), the network (best.json, best.safetensors), the search and a page
            about all of it (report.html); None: nothing is kept.
        progress: whether to show progress on stderr.

    Raises:
        InvalidValue: another model, images that it does not read, limits below what the smallest network needs, a
            folder of another run.
        NotFound, DamagedFile, StorageError: of files.
        DeviceUnavailable: this machine has no such device.
    """
    where, lines = resolve_device(device), StepLines(progress)
    subject = make_subject(model, read_splits(images, labels, valid, test, transform, seed), classes, where)
    if evaluations and max_latency is not None:
        raise InvalidValue("a search scores networks without timing them: give evaluations or max_latency.")
    if distil is None:
        distil = 0 if subject.is_large and where.type == "cpu" else Distillation().steps
    by = find_agent(agent).name if evaluations else None
    settings = Settings(max_macs, evaluations, by, distil, seed, where.type, max_latency)
    macs_range(subject, max_macs)  # before anything is written
    folder = None if run is None else resolve(run)
    made = compress(subject, settings, agent, type(unwrapped(model)).__name__, folder, lines)
    if folder is not None and not is_file(folder / REPORT):
        try:
            write_report(folder, batches=(1,), device=str(where), progress=progress)
        except AdsGymError as error:  # the network is there
            told = f"the network is in {folder}, and its report could not be written: {error}"
            warnings.warn(told, RunWarning, stacklevel=2)
    return made
