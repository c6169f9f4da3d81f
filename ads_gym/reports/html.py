"""Write the report of a run: one HTML file that needs nothing else, no script and no network."""

from collections.abc import Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ads_gym import __version__, files
from ads_gym.records import TimedBatch, checked
from ads_gym.reports import charts
from ads_gym.reports.page import Page, Role, Stage
from ads_gym.reports.search_page import date, search_page
from ads_gym.reports.sparsify_page import sparsify_page
from ads_gym.runs.folder import REPORT, circumstances, now
from ads_gym.runs.sparsify_record import FILE
from ads_gym.runs.step_lines import StepLines

if TYPE_CHECKING:
    from jinja2 import Environment

BATCHES = 1, 64  # images, for latency
SECONDS = 20.0  # for each of them; more where six calls of both networks take longer
_SPACES = "\n" + charts.THIN_SPACE  # which do not count as printable


@checked
def write_report(
    run: str | Path,
    out: str | Path | None = None,
    *,
    latency: bool = True,
    batches: Annotated[tuple[TimedBatch, ...], Field(min_length=1)] = BATCHES,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Write the report of a finished search, or of a finished `sparsify`.

    Args:
        run: its folder; nothing else in it is changed.
        out: the file; None: report.html in the folder.
        latency: whether to measure how long images take on this machine: 30 times, or as often as 20 seconds allow, but
            five times.
        batches: of how many images, 1 to 4,096; a line of the table for each.
        device: on which: "auto", "cpu", "cuda".
        progress: whether to show on stderr how far that has come.

    Returns:
        The full path of the file.

    Raises:
        NotFound: no run folder.
        InvalidValue: a run that is not over, or latency that this machine has no memory for.
        DamagedFile: files that cannot be used.
        DeviceUnavailable: this machine has no such device.
        StorageError: no space or no permission; what stood there before still does.
    """
    folder = files.resolve(run)
    target = folder / REPORT if out is None else files.resolve(out)
    if out is None:
        files.check_no_link(target)
    page = (sparsify_page if files.exists(folder / FILE) else search_page)(Path(run))
    if latency and page.sparse.file_bytes is not None:
        page = with_latency(page, device, batches, progress=progress)
    files.write_file(target, render(page))
    return target


def with_latency(page: Page, device: str = "auto", batches: Sequence[int] = BATCHES, *, progress: bool = False) -> Page:
    """Return the page with what a batch takes on this machine, in the dense and in the sparse network.

    Raises:
        InvalidValue, DeviceUnavailable: as `measure_latency`.
    """
    from ads_gym.nets.latency import measure_latency

    lines, measured = StepLines(progress), []
    for batch in batches:
        with lines.long(f"timing batches of {batch}", "repeats") as step:
            measured.append(
                measure_latency(page.architecture, batch, device=device, max_seconds=SECONDS, progress=step.update)
            )
    return replace(page, latency=tuple(measured), machine=_machine())


def _machine() -> str:
    import torch

    here = circumstances()
    threads = "1 CPU thread" if here["threads"] == 1 else f"{here['threads']} CPU threads"
    return f"{here['machine']}, {threads}, torch {torch.__version__}"


def render(page: Page) -> str:
    """Return the page as HTML. Every text in it is escaped; it says itself that nothing in it may run."""
    repaired = [each for each in page.points if each.weights in ("repaired", "distilled") or each.role == Role.DENSE]
    if len(repaired) == len(page.points) or len(repaired) < 2:  # there is nothing more to see
        repaired = []
    pictures: dict[str, Any] = {
        "blocks": charts.blocks(page.architecture),
        "distances": charts.kept_by_distance(page.architecture),
        "accuracy": charts.accuracy_against_macs(page.points, page.measured) if page.points else None,
        "repaired": charts.accuracy_against_macs(repaired, page.measured) if repaired else None,
        "curve": charts.best_so_far(page.curve) if page.curve else None,
    }
    template = environment().get_template("page.html")
    return template.render(page=page, pictures=pictures, charts=charts, version=__version__, made=now())


def environment() -> "Environment":
    """The templates of this package, and how they show numbers; every text is escaped."""
    from jinja2 import DictLoader, Environment, StrictUndefined

    folder = resources.files("ads_gym.reports") / "templates"
    sources = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("page.html", "benchmark.html", "svg.html", "style.css")
    }
    made = Environment(
        loader=DictLoader(sources),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": charts.percent,
        "size": _size,
        "count": "{:,}".format,
        "ms": _milliseconds,
        "date": date,
    }
    made.globals |= {"difference": _difference}
    return made


def _printable(value: object) -> object:
    """A text without characters that steer what shows it: of direction, of control."""
    if type(value) is not str or value.isprintable():  # markup of ours stays as it is
        return value
    return "".join(letter if letter.isprintable() or letter in _SPACES else repr(letter)[1:-1] for letter in value)


def _size(count: int) -> str:
    """Bytes."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 999.5 * size else f"{count / size:,.0f} {unit}"
    return f"{count} B"


def _milliseconds(seconds: float) -> str:
    """Three digits."""
    value = seconds * 1e3
    return f"{value:#.3g}" if value < 100 else f"{value:,.0f}"


def _difference(stage: Stage, dense: Stage) -> str:
    """Of accuracies, in points, with its sign."""
    return f"{(stage.accuracy - dense.accuracy) * 100:+.1f}".replace("-", "\N{MINUS SIGN}")
