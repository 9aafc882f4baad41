"""``fallline study NAME``, ``fallline study list``."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import BadValue, NotFound, nearest


def study(
    name: Annotated[str, typer.Argument(help="A study of the lecture, or 'list' for all their claims.", metavar="NAME")],
    quick: Annotated[bool, typer.Option("--quick", help="Fewer replicates and shorter runs: a look.")] = False,
    replicates: Annotated[int | None, typer.Option(help="Repetitions that intervals are over.", show_default="the study's")] = None,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    level: Annotated[float, typer.Option(help="Confidence level, at which a claim's intervals hold together.")] = 0.95,
    given: Annotated[list[str] | None, typer.Option("--set", help="An option of the study itself, as in --set data=adult; again for another.", metavar="NAME=VALUE")] = None,
    content: Annotated[Path | None, typer.Option(help="style-transfer: the picture whose content is kept.")] = None,
    style: Annotated[Path | None, typer.Option(help="style-transfer: the picture whose style is taken.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for store and report, or for style-transfer a picture.png.", show_default="a new one under fallline-out")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 trains in this one.", show_default="one per core")] = None,
    executor: Annotated[str, typer.Option(help="auto, traced, compiled or alone; graphed on a GPU.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    every: Annotated[float, typer.Option("--checkpoint-every", help="Seconds between two checkpoints of a block of runs.")] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")] = False,
) -> None:  # fmt: skip
    """Run a study of the lecture: does what the slides say hold?"""
    from ..verbs import study as verb
    from .compare import stopped_cleanly

    if name == "list":
        _list(verb.listed(), as_json=as_json)
        return
    options = dict(map(_option, given or []))
    options |= {key: str(path) for key, path in (("content", content), ("style", style)) if path is not None}
    if name == "style-transfer" and out is not None and out.suffix:
        _picture(options, out, as_json=as_json)
        return
    with stopped_cleanly(), redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = verb.study(
            name, quick=quick, replicates=replicates, seed=seed, level=level, out=out, workers=workers, executor=executor,
            device=device, every=every, **options,
        )  # fmt: skip
    show(found, as_json=as_json)


def _picture(options: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """One picture from two, in place of the study."""
    from ..verbs.stylize import stylize
    from .compare import stopped_cleanly

    known = ("content", "style", "size", "alpha", "beta", "rule", "weights", "steps", "seed")
    for name in options:
        if name not in known:
            raise NotFound(f"a picture has no option {name!r}; {nearest(name, known)}")
    lacking = [f"--{name}" for name in ("content", "style") if name not in options]
    if lacking:
        raise BadValue(f"a picture is made from two: give {' and '.join(lacking)} too")
    with stopped_cleanly(), redirect_stdout(sys.stderr if as_json else sys.stdout):
        found = stylize(out=out, **options)
    print(json.dumps(found.document, allow_nan=False) if as_json else found)


def show(found: Any, *, as_json: bool) -> None:
    """Print what a study found."""
    if as_json:
        print(json.dumps(found.document, allow_nan=False))
        return
    print(found)
    print("\n".join(f"  {name + ':':8}{found.document[name]}" for name in ("report", "store")))


def _option(text: str) -> tuple[str, Any]:
    """A name and a value, a number where it is one.

    >>> _option("noise=0.2")
    ('noise', 0.2)
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise BadValue(f"--set takes NAME=VALUE, as in --set data=adult; got {text!r}")
    for kind in (int, float):
        try:
            return name, kind(value)
        except ValueError:
            continue
    return name, value


def _list(claims: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(claims, allow_nan=False))
        return
    for name in dict.fromkeys(claim["study"] for claim in claims):
        own = [claim for claim in claims if claim["study"] == name]
        print(f"{name} ({own[0]['minutes']:g} min, --quick {own[0]['quick_minutes']:g} min)")
        for claim in own:
            print(f"  {claim['id']:4}{claim['state']:10}  {claim['claim']}")
            print(
                "\n".join(
                    f"{'':16}{text}"
                    for text in (f"slide: {claim['slide']}", *(f"- {one}" for one in claim["criteria"]))
                )
            )
