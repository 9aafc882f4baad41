"""Where a study writes: a folder of its own with a store and a report, of which nothing stays where nothing was obtained."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path
from typing import Any

from ..errors import BadStore
from ..specs import Study
from ..store import Store
from .carry_out import CHECKPOINTS
from .stopping import telling

OUT = Path("fallline-out")
"""Where folders are made when none is named."""


def new_folder(out: str | Path | None, what: str) -> Path:
    """The folder for store and report, checked before anything is trained; left out, one that tells what and when."""
    if out is None:
        stamp = datetime.datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        name = "".join(c if c.isalnum() else "-" for c in what)
        path = OUT / f"{name}-{stamp}"
        others = (path.with_name(f"{path.name}-{n}") for n in count(2))
        return next(free for free in chain([path], others) if not free.exists())
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise BadStore(f"{folder} is a file: --out needs a folder, for the store and the report")
    if (folder / "study.db").exists():
        raise BadStore(
            f"{folder} already holds a study (study.db): choose another folder, or remove it first"
        )
    return folder


@contextmanager
def new_store(path: Path, study: Study, facts: Mapping[str, Any]) -> Iterator[Store]:
    """A store in a folder that is made for it; where nothing was obtained, nothing is left."""
    folder = path.parent
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    created = kept = False
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadStore(
                f"the folder {folder} cannot be made ({error.strerror}): choose another with --out"
            ) from error
        with Store.create(path, study, facts) as store:
            created = True
            try:
                yield store
            finally:
                kept = store.count() > 0 or (folder / CHECKPOINTS).is_dir()
    except BaseException:
        if kept:
            with telling(folder, resumable=bool(facts["asked"].get("tasks", True))):
                raise
        for remove in [path.unlink] * created + [one.rmdir for one in made]:
            with suppress(OSError):
                remove()
        raise
