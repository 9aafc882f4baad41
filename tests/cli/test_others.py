"""``fallline report``, ``list`` and ``init``."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

from command_line import CommandLine, environment

WITHOUT_TORCH = """
import sys
from fallline.cli.main import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""


def test_a_report_is_rebuilt_without_torch(fallline: CommandLine, tmp_path: Path):
    small = [
        "--steps",
        "10",
        "--replicates",
        "2",
        "--rates",
        "2",
        "--seeds",
        "1",
        "--rules",
        "sgd,adam",
        "--workers",
        "0",
    ]
    made = fallline("compare", "digits", *small, "--out", "here", "--json")
    page = (tmp_path / "here" / "report.html").read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "report", "here", "--out", "there/deep"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "report: there/deep/report.html\n"
    assert (tmp_path / "there" / "deep" / "report.html").read_text(encoding="utf-8") == page

    as_json = fallline("report", "here/study.db", "--json")
    assert (as_json.status, as_json.err) == (0, "")
    assert as_json.json() == made.json()

    (tmp_path / "a_file").write_text("")
    refused = fallline("report", "here", "--out", "a_file/below", "--json")
    told = "fallline: the folder a_file/below cannot be made (Not a directory): choose another with --out\n"
    assert (refused.status, refused.out, refused.err) == (2, "", told)

    with sqlite3.connect(tmp_path / "here" / "study.db") as db:
        db.execute("UPDATE documents SET text = replace(text, 'accuracy', 'velocity') WHERE name = 'result'")
    db.close()
    damaged = fallline("report", "here", "--json")
    assert (damaged.status, damaged.out) == (2, "")
    assert damaged.err.startswith(
        "fallline: here/study.db is damaged: its result is not as it was written (its checksum"
    )
    assert damaged.err.count("\n") == 1
    assert (tmp_path / "here" / "report.html").read_text(encoding="utf-8") == page


def test_the_report_of_an_unfinished_study_tells_what_is_there(fallline: CommandLine, tmp_path: Path):
    small = [
        "--steps",
        "10",
        "--replicates",
        "2",
        "--rates",
        "2",
        "--seeds",
        "1",
        "--rules",
        "sgd",
        "--workers",
        "0",
    ]
    made = fallline("compare", "digits", *small, "--out", "here", "--json").json()
    with sqlite3.connect(tmp_path / "here" / "study.db") as db:
        db.execute("DELETE FROM documents WHERE name = 'result'")
    db.close()
    assert fallline("report", "here", "--json").json() == {
        "finished": False, "tasks": ["digits"], "runs": made["runs"],
        "arms": [{"arm": "sgd", "runs": made["runs"], "diverged": 0}],
        "store": "here/study.db", "report": "here/report.html",
    }  # fmt: skip


def test_everything_has_a_name_and_a_line(fallline: CommandLine, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "fallline", "list", "--json"],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert fallline("list", "--json").json() == found
    assert list(found) == ["tasks", "rules", "losses", "schedules", "scores"]
    for family, rows in found.items():
        assert rows, family
        names = [row["name"] for row in rows]
        assert len(set(names)) == len(names)
        assert all(row["about"] for row in rows), family
    told = fallline("list")
    for family, rows in found.items():
        assert f"\n{family}\n" in f"\n{told.out}"
        assert all(row["name"] in told.out and row["about"] in told.out for row in rows)
    one = fallline("list", "rules")
    assert one.out in told.out
    assert one.out.startswith("rules\n")


def test_what_init_writes_can_be_compared(fallline: CommandLine, tmp_path: Path):
    ended = fallline("init", "made/here.py")
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == "wrote made/here.py; next: fallline compare made/here.py:task\n"
    assert "fallline compare made/here.py:task" in (tmp_path / "made" / "here.py").read_text(encoding="utf-8")
    small = [
        "--steps",
        "10",
        "--replicates",
        "2",
        "--rates",
        "2",
        "--seeds",
        "1",
        "--rules",
        "sgd",
        "--workers",
        "0",
    ]
    compared = fallline(*ended.out.split("fallline ")[-1].split(), *small, "--json")
    assert (compared.status, compared.err) == (0, "")
    assert compared.json()["tasks"] == ["my task"]
    as_json = fallline("init", "--json").json()
    assert as_json == {"path": "my_task.py", "next": "fallline compare my_task.py:task"}
    assert (tmp_path / "my_task.py").is_file()
