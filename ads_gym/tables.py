"""Print plain-text tables on the terminal, without cutting numbers."""

from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text


class PlainTable(Table):
    """A table of plain text ("[v2]" is no markup), whose unwrapped columns are as wide as their text."""

    def add_row(self, *cells: object, style: str = "") -> None:  # type: ignore[override]
        """Add a row of texts."""
        texts = [Text(str(cell)) for cell in cells]
        super().add_row(*texts, style=style)
        for column, text in zip(self.columns, texts, strict=True):
            if column.no_wrap:
                column.min_width = max(column.min_width or _width(column.header), _width(text))


def _width(text: object) -> int:
    """Of its longest line, in characters of the terminal."""
    return max(map(cell_len, str(text).splitlines()), default=0)


def make_table(text: Sequence[str], numbers: Sequence[str] = (), title: str | None = None) -> Table:
    """An empty table.

    Args:
        text: names of the first columns; what they hold is wrapped where the terminal is narrow.
        numbers: names of the columns after them, flush right; what they hold is never wrapped or cut.
        title: above it.
    """
    table = PlainTable(
        title=None if title is None else Text(title, style="italic"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    for index, name in enumerate(text):
        table.add_column(name, overflow="fold", no_wrap=index == 0)
    for name in numbers:
        table.add_column(name, justify="right", vertical="bottom", no_wrap=True)
    return table


def print_table(table: Table, console: Console) -> None:
    """Print a table, wider than the terminal if its numbers need that."""
    options = console.options.update(max_width=10_000)
    needed = console.measure(table, options=options).minimum
    if needed > console.width:
        table.width = needed
    console.print(table, crop=False, no_wrap=needed > console.width)
