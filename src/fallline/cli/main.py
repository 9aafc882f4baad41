"""``fallline VERB …``: errors become one sentence and exit status 2, Ctrl-C a clean message."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .. import __version__
from ..errors import FalllineError
from . import compare, init, list_, report

app = typer.Typer(
    name="fallline",
    help="Find out which loss, optimizer and settings train a PyTorch model best, and why.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("list")(list_.list_)
app.command("init")(init.init)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fallline {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find out which loss, optimizer and settings train a PyTorch model best, and why."""


def main() -> None:
    """Run the command line."""
    try:
        app()
    except FalllineError as error:
        if os.environ.get("FALLLINE_TRACEBACK"):
            raise
        print(f"fallline: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of a pipe has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
