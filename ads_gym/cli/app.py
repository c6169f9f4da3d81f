"""The root command and its error handling."""

import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ads_gym import __version__, files
from ads_gym.errors import AdsGymError, AgentFailed
from ads_gym.limits import allow_large

PROGRAM_OPTIONS = ("--debug", "--allow-large")
INTERRUPTED = 130  # as shells say it: 128 + SIGINT


class Program(TyperGroup):
    """Turns what a user can put right into one line on stderr and exit code 2; usage errors keep typer's form."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command."""
        try:
            with allow_large(ctx.params["allow_large"]):
                return super().invoke(ctx)
        except AgentFailed as error:
            self._tell(error, error, ctx.params["debug"], has_lines=True)
        except AdsGymError as error:
            self._tell(error, error, ctx.params["debug"])
        except BrokenPipeError:  # whoever read the output has gone: typer ends quietly
            raise
        except OSError as error:  # that no file is named for: most often one that is imported, and no free file handle
            self._tell(error, f"{files.reason(error)}: {error.filename}.", ctx.params["debug"])
        except KeyboardInterrupt as error:
            print("Interrupted. Nothing recorded is lost: the same command goes on from there.", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from error

    @staticmethod
    def _tell(error: Exception, message: object, debug: bool, has_lines: bool = False) -> NoReturn:
        if debug:
            traceback.print_exception(error)
        else:
            told = "\n".join(map(harmless, str(message).splitlines())) if has_lines else one_line(message)
            print(f"Error: {told}", file=sys.stderr)
        raise typer.Exit(2) from error


app = typer.Typer(
    cls=Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def one_line(message: object) -> str:
    """A message without line breaks, and without characters that would steer the terminal: names may hold them."""
    return harmless(" ".join(str(message).split()))


def harmless(text: str) -> str:
    """A line without characters that would steer the terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"ads-gym {__version__}")
        raise typer.Exit


@app.callback()
def program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error; may stand anywhere.")] = False,
    allow_large: Annotated[
        bool, typer.Option("--allow-large", help="Allow what needs much memory; may stand anywhere.")
    ] = False,
) -> None:
    """Sparsify a DenseNet: search which skip connections to keep, and take the smaller network home."""
