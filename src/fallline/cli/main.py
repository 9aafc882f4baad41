"""``fallline VERB …``: errors become one sentence and exit status 2, Ctrl-C a clean message."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import FalllineError
from . import compare, find_lr, init, list_, report, resume, study, train

app = typer.Typer(
    name="fallline",
    help="Find out which loss, optimizer and settings train a PyTorch model best, and why.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("compare")(compare.compare)
app.command("train")(train.train)
app.command("find-lr")(find_lr.find_lr)
app.command("study")(study.study)
app.command("resume")(resume.resume)
app.command("report")(report.report)
app.command("list")(list_.list_)
app.command("init")(init.init)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fallline {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find out which loss, optimizer and settings train a PyTorch model best, and why."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


def main() -> None:
    """Run the command line."""
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except typer.Abort:  # Ctrl-C before there was anything to keep
        print("\nfallline: stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("FALLLINE_TRACEBACK"):
            raise
        print(f"fallline: {_sentence(error)}", file=sys.stderr)
        sys.exit(2)


def _sentence(error: Exception) -> str:
    if isinstance(error, FalllineError):
        return str(error)
    if hasattr(error, "format_message"):  # a command line that does not parse
        verb = getattr(getattr(error, "ctx", None), "command_path", "fallline")
        return f"{error.format_message().rstrip('.')}; see {verb} --help"
    what = f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
    return f"{what}; to see where, set FALLLINE_TRACEBACK=1 and run it again"
