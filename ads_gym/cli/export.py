"""`ads-gym export`: the network of a run for programs that know nothing of ads-gym."""

from pathlib import Path
from typing import Annotated

import typer


def _formats(incomplete: str) -> list[str]:
    from ads_gym.nets.export import ExportFormat

    return [each for each in ExportFormat if each.startswith(incomplete)]


def export(
    run: Annotated[Path, typer.Argument(help="A run folder, or a saved network.")],
    format: Annotated[
        str, typer.Option("--format", help="onnx, torch-export or python.", autocompletion=_formats)
    ] = "onnx",
    folded: Annotated[
        bool, typer.Option("--folded", help="Fold BatchNorm into the convolutions; not for python.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: beside the weights, under their name.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace files that are there already.")] = False,
) -> None:
    """Export the network of a run to ONNX, to torch.export, or to a Python file that needs nothing but torch.

    The export is loaded again, python in a process of its own, and compared
    with the network on random images before anything is written.
    """
    from ads_gym.architecture import find_architecture
    from ads_gym.nets.export import BATCHES, ExportFormat
    from ads_gym.nets.export import export as write
    from ads_gym.nets.sparse import load

    kind, file = ExportFormat(format), find_architecture(run)
    _check_over(run)
    stem = file.with_suffix("") if file.suffix == ".json" else file
    beside = stem.with_name(stem.name + "-folded" * folded)
    made = write(load(run), beside if out is None else out, kind, folded=folded, replace=replace)
    for path in made.files:
        print(f"{path}  {path.stat().st_size:,} bytes")
    batches = " and ".join(map(str, BATCHES))
    print(f"loaded again: on {batches} random images, logits differ by {made.difference:.1e} of the largest at most")


def _check_over(run: Path) -> None:
    """Check that a run folder has a result.

    Raises:
        InvalidValue: its search was interrupted.
    """
    from ads_gym.errors import InvalidValue
    from ads_gym.files import is_folder, resolve
    from ads_gym.runs.folder import RunFolder

    if is_folder(resolve(run)):
        manifest = RunFolder(resolve(run)).read()
        if manifest is not None and manifest.ended is None:
            raise InvalidValue(f"the search in {run} is not over: give its command again, and export what it finds.")
