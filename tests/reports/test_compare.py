"""The report of a comparison, from the store to the page."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fallline.errors import BadStore, NotFound
from fallline.reports.compare import figures
from fallline.reports.write import write_report
from fallline.store import Store

from . import synthetic
from .reading import Reader, sections, texts
from .synthetic import FIVE, Made

Reported = Callable[..., str]


def spoken(page: str) -> str:
    """The text of a page."""
    return " ".join(re.sub(r"<(style|svg).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL).split())


# --- the page ---------------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_its_ids_are_its_own(page: str):
    read = Reader(page)
    assert max(read.ids.values()) == 1
    assert read.refers <= set(read.ids)
    assert page.startswith("<!DOCTYPE html>")
    assert '<html lang="en">' in page


def test_the_page_loads_nothing_and_needs_no_script(page: str):
    read = Reader(page)
    assert not {tag for tag, _ in read.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "video",
        "base",
    }
    for _, given in read.tags:
        assert not {"src", "srcset", "onload", "onclick"} & set(given)
        assert (given.get("href") or "#").startswith("#")
    addresses = set(re.findall(r"https?://[^\"' )]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")
    assert "content=\"default-src 'none'" in page.replace("&#x27;", "'")


def test_the_parts_come_in_order(page: str):
    assert sections(page) == [
        "Ranking", "Learning curves", "Sensitivity", "Time to target", "What diverged", "Pairwise differences",
        "How it was judged", "Provenance", "How to reproduce",
    ]  # fmt: skip
    assert texts(page, "h1") == ["Comparison of 5 arms on digits"]
    assert page.index('class="verdict') < page.index("<h2")


def test_every_title_states_a_conclusion(page: str):
    assert texts(page, "h3") == [
        "adam and rmsprop tie for the best accuracy; momentum, adagrad and sgd fall behind",
        "The median validation loss ends between 0.0994 (adam) and 0.209 (sgd)",
        "adam works over 2.2 decades of learning rate, sgd over 0.2",
        "A learning rate ten times off costs adam 0.036 of accuracy and momentum 0.13 and makes sgd diverge",
        "adam reaches a validation accuracy of 0.93 in 105 steps, sgd in 372",
        "150 of 1,500 runs diverged: 60 of 300 of momentum and 90 of 300 of sgd",
        "8 of 10 differences in accuracy are significant",
    ]


def test_every_figure_is_described_in_words(page: str):
    described = texts(page, "desc")
    drawings = re.findall(r'<svg [^>]*role="img"', page)
    assert len(described) == len(drawings) == 13
    assert "adam 0.9729 [0.9714, 0.9744]" in described[0]
    assert all(re.search(r"\d", text) for text in described)
    assert len(texts(page, "figcaption")) == 5


def test_the_ranking_table_holds_what_was_found(page: str):
    row = next(row for row in texts(page, "tr") if row.startswith("5 sgd"))
    assert (
        row
        == "5 sgd 0.9539 [0.9520, 0.9559] 0.211 [0.204, 0.218] 372 29 of 30 13 ms 0.2 0.25 to 0.36 lr 0.3 –"
    )
    assert 'scope="col"' in page
    assert 'scope="row"' in page


def test_what_diverged_is_told(page: str):
    row = next(row for row in texts(page, "tr") if row.startswith("sgd"))
    assert row.startswith(
        "sgd 90 of 270 0 of 30 3 to 30 12 the loss left the finite numbers at step 12: the learning rate"
    )


def test_provenance_and_command_are_given(page: str):
    said = spoken(page)
    command = "fallline compare digits --rules adam,rmsprop,adagrad,momentum,sgd --out &#x27;my study&#x27;"
    assert said.count(command) == 2
    for fact in ("torch 2.13.0", "commit 4f1c2d9", "cpu Example CPU, 2 cores", "fallline report study.db"):
        assert fact in said


def test_the_figures_are_data(five: Path):
    with Store.open(five) as store:
        made = figures(store)
    assert [figure.kind for figure in made] == ["ranking", "curves", "working", "rates", "speed"]
    assert made[0].panels[0].rows == ("adam", "rmsprop", "momentum", "adagrad", "sgd")
    assert {mark.style for figure in made for panel in figure.panels for mark in panel.marks} == {
        None,
        0,
        1,
        2,
        3,
        4,
    }


# --- other comparisons ------------------------------------------------------------------------------------


def test_names_cannot_break_the_page(reported: Reported):
    names = ("<script>alert('x')</script>", '$a_1$ & "b"', "日本語 / 🎿", "new.py:task / " + "adam" * 30)
    page = reported([dataclasses.replace(FIVE[i], label=name) for i, name in enumerate(names)])
    Reader(page)
    assert "<script" not in page
    assert "&lt;script&gt;alert" in page


def test_one_arm(reported: Reported):
    page = reported(FIVE[:1], 3)
    assert re.fullmatch(r"adam reaches accuracy 0\.\d+ \[0\.\d+, 0\.\d+\]", texts(page, "h3")[0])
    assert "Pairwise differences" not in sections(page)
    Reader(page)


def test_two_arms(reported: Reported):
    page = reported(FIVE[:2], 2)
    assert texts(page, "h3")[0] == "Both arms tie on accuracy: every interval overlaps"
    assert "The difference in accuracy is not significant" in texts(page, "h3")
    Reader(page)


def test_an_arm_of_which_every_run_diverged(reported: Reported):
    page = reported((*FIVE[:2], Made("sgd", 0.3, limit=1e-9)), 2)
    titles = texts(page, "h3")
    assert titles[0].endswith("; sgd diverged")
    assert titles[1].endswith("; every run of sgd diverges")
    assert "sgd reaches the target nowhere" in titles[2]
    assert titles[4].endswith("; sgd does not reach it")
    assert "diverged in 6 of 6 final runs" in page
    Reader(page)


def test_only_diverged_runs(reported: Reported):
    page = reported((Made("sgd", 0.3, limit=1e-9), Made("adam", 0.3, limit=1e-9)), 2)
    assert "Ranking" in sections(page)
    assert texts(page, "h3")[-2] == "120 of 120 runs diverged: 60 of 60 of sgd and 60 of 60 of adam"
    Reader(page)


def test_many_arms_get_a_panel_each(reported: Reported):
    labels = [f"experiments/new_architecture.py:task / rule number {i}" for i in range(12)]
    page = reported([dataclasses.replace(FIVE[i % 3], label=label) for i, label in enumerate(labels)], 2)
    assert len(texts(page, "h4")) == 36  # loss, score and rates
    assert max(Reader(page).ids.values()) == 1


def test_an_unfinished_study_shows_what_there_is(tmp_path: Path):
    path = synthetic.write(tmp_path / "study.db", replicates=2, finished=False)
    page = write_report(path, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "This study is not finished: it holds 200 of 300 runs." in spoken(page)
    assert sections(page)[:3] == ["Learning curves", "Sensitivity", "What diverged"]
    assert "their range" in spoken(page)
    Reader(page)


def test_a_study_without_runs_is_reported_too(tmp_path: Path):
    with Store.create(tmp_path / "study.db", synthetic.study(FIVE, 2), {}):
        pass
    page = write_report(tmp_path / "study.db", tmp_path / "report.html").read_text(encoding="utf-8")
    assert "it holds 0 of 300 runs" in spoken(page)
    Reader(page)


def test_a_study_that_grows_can_be_reported(tmp_path: Path):
    runs = list(synthetic.runs(FIVE[:1], 2))
    with Store.create(tmp_path / "study.db", synthetic.study(FIVE, 2), {}) as store:
        store.add(runs[:7])
        page = write_report(tmp_path / "study.db", tmp_path / "report.html").read_text(encoding="utf-8")
    assert "it holds 7 of 300 runs" in spoken(page)


# --- what a result may hold -------------------------------------------------------------------------------


def test_notes_findings_and_a_baseline_are_shown(reported: Reported):
    def change(result: dict[str, Any]) -> None:
        result["notes"] = ["The best setting of adam sits at the <edge>."]
        result["ranking"][0] |= {
            "boundary": True,
            "findings": [{"code": "plateau", "symptom": "it stalls"}, "a sentence"],
        }
        pair = {"arm": "adam", "difference": -0.02, "low": -0.03, "high": -0.01, "p": 0.002}
        result["baseline"] = {
            "store": "old.db",
            "worse": True,
            "sentence": "worse than the baseline",
            "pairs": [pair],
        }

    page = reported(FIVE[:2], 2, change)
    said = spoken(page)
    assert "sits at the &lt;edge&gt;." in said
    assert "at the edge of the search" in said
    assert "symptom it stalls" in said
    assert "Worse than the baseline" in texts(page, "h3")
    assert "adam −0.020 [−0.030, −0.010] 0.002" in texts(page, "tr")
    Reader(page)


def test_what_a_result_leaves_out_is_left_out(reported: Reported):
    def change(result: dict[str, Any]) -> None:
        kept = {name: result[name] for name in ("tasks", "metric", "ranking")}
        kept["ranking"] = [{"arm": row["arm"], "score": row["score"]} for row in kept["ranking"]]
        result.clear()
        result |= kept

    page = reported(FIVE[:2], 2, change)
    assert "Sensitivity" not in sections(page)
    assert "test loss" not in spoken(page)
    Reader(page)


def test_an_empty_result_is_a_page(reported: Reported):
    page = reported(FIVE[:1], 1, dict.clear)
    assert "The study has no verdict." in spoken(page)
    Reader(page)


@pytest.mark.parametrize("values", [[0.0, 0.5, 0.9], [-1.0, 1.0, 3.0]])
def test_something_else_than_a_learning_rate_may_be_searched(reported: Reported, values: list[float]):
    def change(result: dict[str, Any]) -> None:
        for row in result["ranking"]:
            row["settings"] = {"1.beta1": 0.5}
            row["rates"] = {"name": "1.beta1", "values": values, "scores": [0.8, 0.9, None], "low": [0.7, 0.8, None],
                            "high": [0.9, 1.0, None], "diverged": [0, 1, 6], "of": [6, 6, 6]}  # fmt: skip
            row["working"] = None

    page = reported(FIVE[:2], 2, change)
    assert "Validation accuracy at each beta1 that was searched" in texts(page, "h3")
    assert ">beta1</text>" in page
    Reader(page)


def test_lower_may_be_better(reported: Reported):
    def change(result: dict[str, Any]) -> None:
        result |= {"metric": "mse", "better": "lower"}

    assert "test mse (lower is better)" in reported(FIVE[:2], 2, change)


def test_a_single_tuning_is_told(reported: Reported):
    page = reported(FIVE[:1], 2, lambda result: result["protocol"].update(retune=False))
    assert "The answer holds at these settings" in spoken(page)


# --- files ------------------------------------------------------------------------------------------------


def test_the_path_of_the_report_comes_back_and_an_old_one_is_replaced(five: Path, tmp_path: Path):
    out = tmp_path / "report.html"
    out.write_text("old")
    assert write_report(str(five), str(out)) == out
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_same_store_gives_the_same_report(five: Path, page: str, tmp_path: Path):
    assert write_report(five, tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_a_folder_that_does_not_exist_is_told(five: Path, tmp_path: Path):
    with pytest.raises(
        BadStore, match=r"the report .*cannot be written \(No such file or directory\): check that its folder"
    ):
        write_report(five, tmp_path / "nowhere" / "report.html")


def test_a_store_that_is_missing_or_wrong_is_told(tmp_path: Path):
    with pytest.raises(NotFound, match="there is no store at"):
        write_report(tmp_path / "study.db", tmp_path / "report.html")
    (tmp_path / "study.db").write_text("no store")
    with pytest.raises(BadStore, match="is not a store"):
        write_report(tmp_path / "study.db", tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_no_torch_is_loaded_to_write_a_report(five: Path, tmp_path: Path):
    code = (
        "import sys\nfrom fallline.reports.write import write_report\nwrite_report(sys.argv[1], sys.argv[2])\n"
        "sys.exit(', '.join({'torch', 'scipy', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code, str(five), str(tmp_path / "report.html")], check=True)
