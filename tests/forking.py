"""Runs command lines for tests: torch is loaded once, and each command line gets a process of its own, forked.

It reads one JSON document a line, ``{"args", "variables", "cwd", "out", "err"}``, and answers each with the exit status. What a
command prints goes to the files ``out`` and ``err``, through the real file descriptors. With ``"signal": [number, seconds]`` a
command that lasts longer is sent that signal, with all processes that it started.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from multiprocessing import util
from typing import Any

from fallline.cli.main import main


def run(args: list[str], variables: dict[str, str], cwd: str, out: str, err: str) -> None:
    """Become the command line; does not return."""
    os.environ.update(variables)
    os.chdir(cwd)
    for path, descriptor in ((os.devnull, 0), (out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644), descriptor)
    sys.argv = ["fallline", *args]
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    util._exit_function()  # as when Python ends: daemonic workers are ended
    os._exit(status)


def ended(asked: dict[str, Any]) -> int:
    """Run a command line to its end, or for as long as it may run."""
    number, seconds = asked.pop("signal", None) or (0, None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # it is waited for
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        os.setsid()
        run(**asked)
    if number and signal.sigtimedwait({signal.SIGCHLD}, seconds) is None:
        os.killpg(child, number)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    signal.sigtimedwait({signal.SIGCHLD}, 0)
    return status


for slow in (
    "sklearn.datasets", "sklearn.model_selection", "torch._dynamo", "fallline.verbs.resume", "fallline.reports.draw_svg",
):  # fmt: skip
    importlib.import_module(slow)
for line in sys.stdin:
    print(ended(json.loads(line)), flush=True)
