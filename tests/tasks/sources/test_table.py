"""Tables: CSV and Parquet become the same numbers, fitted on the training part, and never wholly in memory."""

import csv
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fallline.errors import BadTask, BadValue, NotFound
from fallline.tasks.sources import frames, read


@pytest.fixture
def write(tmp_path):
    def write(text, name="table.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_text(text, encoding=encoding)
        return path

    return write


def rows_of(n=60):
    """age, city, married, income, grade: numbers, three texts, two texts, numbers, three classes."""
    cities = ["Ghent", "Bern, old town", 'Bo"nn']
    return [
        {"age": 20 + 3 * i, "city": cities[i % 3], "married": ("no", "yes")[i % 2], "income": 1000.5 * i, "grade": "abc"[i % 3]}
        for i in range(n)
    ]  # fmt: skip


def as_csv(path, rows, delimiter=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def whole(data):
    """All rows, in the order of the parts."""
    parts = [data.parts[part] for part in ("train", "validation", "test")]
    return tuple(np.concatenate([np.asarray(pair[i]) for pair in parts]) for i in (0, 1))


# --- what becomes of a table ----------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_row_is_what_it_was(tmp_path, delimiter):
    rows = rows_of()
    data = read(as_csv(tmp_path / "t.csv", rows, delimiter), target="grade")
    assert data.facts["features"] == [
        "age",
        "city=Bern, old town",
        'city=Bo"nn',
        "city=Ghent",
        "married=yes",
        "income",
    ]
    assert data.facts["classes"] == ["a", "b", "c"]
    assert {part: len(y) for part, (_, y) in data.parts.items()} == {
        "train": 36,
        "validation": 12,
        "test": 12,
    }
    X, y = whole(data)
    scales = data.facts["scaled"]
    ages = np.rint(X[:, 0] * scales["age"]["deviation"] + scales["age"]["mean"]).astype(int)
    assert sorted(ages) == [row["age"] for row in rows]
    of = {row["age"]: row for row in rows}
    for age, x, label in zip(ages, X, y, strict=True):
        row = of[age]
        assert x[1:4].tolist() == [row["city"] == c for c in ("Bern, old town", 'Bo"nn', "Ghent")]
        assert x[4] == (row["married"] == "yes")
        assert x[5] * scales["income"]["deviation"] + scales["income"]["mean"] == pytest.approx(
            row["income"], abs=1e-2
        )
        assert label == "abc".index(row["grade"])


def test_scales_are_those_of_the_training_part_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "CHUNK", 7)  # so that chunks are joined
    data = read(as_csv(tmp_path / "t.csv", rows_of()), target="income")
    X, y = data.parts["train"]
    assert X[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert X[:, 0].std() == pytest.approx(1, rel=1e-6)
    assert (y.mean(), y.std()) == pytest.approx((0, 1), abs=1e-6)
    assert y.shape[1:] == (1,)
    ages = (
        np.asarray(X[:, 0]) * data.facts["scaled"]["age"]["deviation"] + data.facts["scaled"]["age"]["mean"]
    )
    assert data.facts["scaled"]["age"] == pytest.approx(
        {"mean": np.mean(ages), "deviation": np.std(ages)}, rel=1e-6
    )
    back = y[:, 0] * data.facts["target"]["deviation"] + data.facts["target"]["mean"]
    assert back == pytest.approx((ages - 20) / 3 * 1000.5, abs=1e-1)


def test_csv_and_parquet_give_the_same(tmp_path):
    rows = rows_of()
    one = read(as_csv(tmp_path / "t.csv", rows), target="grade")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet", row_group_size=16)
    coded = pa.Table.from_pylist(rows)
    coded = coded.set_column(1, "city", coded["city"].dictionary_encode())
    pq.write_table(coded, tmp_path / "coded.parquet")
    for name in ("t.parquet", "coded.parquet"):
        other = read(tmp_path / name, target="grade")
        assert other.facts == one.facts
        for ours, theirs in zip(whole(one), whole(other), strict=True):
            assert np.array_equal(ours, theirs)


def test_the_size_of_chunks_changes_nothing(tmp_path, monkeypatch):
    path = as_csv(tmp_path / "t.csv", rows_of())
    one = whole(read(path, target="grade"))
    monkeypatch.setattr(frames, "CHUNK", 7)
    monkeypatch.setenv("FALLLINE_CACHE", str(tmp_path / "other"))
    for ours, theirs in zip(one, whole(read(path, target="grade")), strict=True):
        assert np.allclose(ours, theirs, atol=1e-6)


def test_whole_numbers_are_classes_where_they_are_few(tmp_path):
    rows = [{"x": i, "few": i % 3 + 5, "many": i, "real": i % 3 + 0.5} for i in range(60)]
    path = as_csv(tmp_path / "t.csv", rows)
    assert read(path, target="few").facts["classes"] == ["5", "6", "7"]
    assert sorted(set(whole(read(path, target="few"))[1])) == [0, 1, 2]
    assert "classes" not in read(path, target="few", kind="numbers").facts
    assert "classes" not in read(path, target="many").facts
    assert "classes" not in read(path, target="real").facts
    assert len(read(path, target="many", kind="classes").facts["classes"]) == 60
    assert read(path, target="few").outputs == 3
    assert read(path, target="real").outputs == 1


def test_the_target_has_a_usual_name_or_is_named(tmp_path):
    path = as_csv(tmp_path / "t.csv", [{"x": i, "Label": "ab"[i % 2]} for i in range(20)])
    assert read(path).facts["target"] == {"name": "Label"}
    other = as_csv(tmp_path / "u.csv", rows_of())
    with pytest.raises(
        NotFound, match=r"which column is the target\? say target='…' .*; known: age, city, married"
    ):
        read(other)
    with pytest.raises(NotFound, match="there is no column 'grad' for the target; did you mean 'grade'"):
        read(other, target="grad")


def test_a_constant_column_is_zero(tmp_path):
    data = read(as_csv(tmp_path / "t.csv", [{"x": 5, "y": "ab"[i % 2], "z": i} for i in range(20)]))
    assert (whole(data)[0][:, 0] == 0).all()


# --- missing values -------------------------------------------------------------------------------------------


def holes():
    rows = rows_of()
    for i in range(0, 60, 6):
        rows[i]["age"] = ("", "NA", "nan", "?", "null")[i // 6 % 5]
    rows[3]["city"] = ""
    return rows


def test_missing_values_are_told(tmp_path):
    path = as_csv(tmp_path / "t.csv", holes())
    with pytest.raises(
        BadTask,
        match=r"^2 of 4 columns have missing values, most of all 'age' \(10 of 60, the first in row 1\): fill them",
    ):
        read(path, target="grade")
    assert "age" not in read(path, target="grade", drop=["age", "city"]).facts["features"]


def test_missing_values_are_filled_when_asked(tmp_path):
    data = read(as_csv(tmp_path / "t.csv", holes()), target="grade", missing="fill")
    assert data.facts["filled"] == {"age": 10, "city": 1}
    assert data.facts["features"][1:5] == ["city=Bern, old town", 'city=Bo"nn', "city=Ghent", "city=missing"]
    X, _ = whole(data)
    assert (X[:, 0] == 0).sum() == 10  # the mean of the training part, once standardized
    assert X[:, 4].sum() == 1
    assert (X[:, 1:5].sum(1) == 1).all()


def test_nothing_is_said_of_a_column_without_values(tmp_path):
    path = as_csv(tmp_path / "t.csv", [{"x": "", "y": "ab"[i % 2], "z": i} for i in range(20)])
    with pytest.raises(BadTask, match=r"column 'x' has no values at all: pass drop=\['x'\]"):
        read(path, missing="fill")


# --- sentences ------------------------------------------------------------------------------------------------

TWENTY = "\n".join(f"{i},{'ab'[i % 2]}" for i in range(20))


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("", {}, "table.csv is empty: the first line must name the columns"),
        ("x,y\n", {}, "the table has no rows: a task needs examples"),
        ("1,2\n3,4\n", {}, "the first line of table.csv must name the columns, but it holds numbers"),
        ("x,x,y\n1,2,3\n", {}, "the columns of table.csv must have different names, got 'x, x, y' in its first line"),
        ("x,,y\n1,2,3\n", {}, "the columns of table.csv must have different names"),
        ("x,y\n1,a\n2,b,c\n", {}, "line 3 of table.csv has 3 values for 2 columns: quote texts that hold the separator"),
        ('x,y\n1,"a\n2,b\n', {}, "table.csv cannot be read as a CSV file in UTF-8: unexpected end of data"),
        ("y\n" + "\n".join("ab" * 10), {}, "the table has no column but the target: nothing to learn from"),
        (f"x,y\n{TWENTY}\n7,\n", {}, r"the target 'y' has 1 of 21 values missing \(the first in row 21\): leave those"),
        (f"x,y\n{TWENTY}\n", {"kind": "numbers"}, "the target 'y' holds texts such as 'a': it cannot be numbers"),
        ("x,y\n" + "\n".join(f"id{i},{i % 2}" for i in range(70)), {}, "column 'x' has more than 64 different texts, so it"),
        ("x,y\n" + "\n".join(f"{i},1" for i in range(20)), {}, "the target 'y' is 1 in all 20 rows, so there is nothing"),
        ("x,y\n" + "\n".join(f"{i},a" for i in range(20)), {}, "the target 'y' is a in all 20 rows, so there is nothing"),
        ("x,y\n" + "\n".join(f"{i}e300,{i % 2}" for i in range(20)), {}, r"the column 'x' holds numbers as large as 1.*e\+301, w"),
    ],
    ids=range(14),
)  # fmt: skip
def test_tables_that_cannot_be_used(write, text, options, sentence):
    with pytest.raises(BadTask, match=sentence) as caught:
        read(write(text), **options)
    assert "\n" not in str(caught.value)


def test_options_that_do_not_exist(write):
    path = write(f"x,y\n{TWENTY}\n")
    with pytest.raises(BadValue, match="missing must be 'refuse' or 'fill' for a table, got 'drop'"):
        read(path, missing="drop")
    with pytest.raises(BadValue, match="kind must be 'classes' or 'numbers' for a table, got 'class'"):
        read(path, kind="class")
    for name in ("z", "y"):
        with pytest.raises(NotFound, match=f"there is no column '{name}' to drop; "):
            read(path, drop=name)
    with pytest.raises(
        BadValue, match=r"table.csv is read as a table, which has no option 'targt'; did you mean 'target'"
    ):
        read(path, targt="y")


def test_text_that_is_not_utf_8(write):
    with pytest.raises(
        BadTask, match=r"table.csv cannot be read as a CSV file in UTF-8: 'utf-8' codec can't decode"
    ):
        read(write(f"x,y\n{TWENTY}\n1,é\n", encoding="latin-1"))


def test_a_byte_order_mark_and_blank_lines_do_no_harm(write):
    data = read(write(f"x,y\n\n{TWENTY}\n\n", encoding="utf-8-sig"))
    assert data.facts["features"] == ["x"]


def test_parquet_files_that_cannot_be_used(tmp_path, write, monkeypatch):
    pq.write_table(pa.table({"x": [[1, 2]] * 20, "y": ["a", "b"] * 10}), tmp_path / "lists.parquet")
    with pytest.raises(
        BadTask, match=r"column 'x' of lists.parquet is of the type list<.*>, and neither numbers nor texts"
    ):
        read(tmp_path / "lists.parquet")
    with pytest.raises(BadTask, match=r"broken.parquet cannot be read as a Parquet file: "):
        read(write("no parquet", "broken.parquet"))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(
        NotFound, match=r"lists.parquet needs pyarrow to be read: pip install 'fallline\[data\]'"
    ):
        read(tmp_path / "lists.parquet")


# --- what is kept ---------------------------------------------------------------------------------------------


def test_a_table_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path = as_csv(tmp_path / "t.csv", rows_of())
    first = read(path, target="grade")
    with monkeypatch.context() as patch:
        patch.setattr(frames, "build", lambda *_: pytest.fail("read again"))
        again = read(path, target="grade")
        with pytest.raises(pytest.fail.Exception):
            read(path, target="income")
    assert again.facts == first.facts
    as_csv(path, rows_of(70))
    assert len(whole(read(path, target="grade"))[1]) == 70


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_never_wholly_in_memory(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(frames, "CHUNK", 256)
    n, width = 10_000, 60
    values = np.random.default_rng(0).normal(size=(n, width)).round(3)
    names = [f"x{i}" for i in range(width)]
    path = tmp_path / f"large.{kind}"
    target = (np.arange(n) % 2).astype(float)
    if kind == "csv":
        np.savetxt(
            path,
            np.column_stack([values, target]),
            delimiter=",",
            fmt="%.3f",
            header=",".join([*names, "y"]),
            comments="",
        )
    else:
        columns = {name: values[:, i] for i, name in enumerate(names)} | {"y": target}
        pq.write_table(pa.table(columns), path, row_group_size=1024)
    read(as_csv(tmp_path / "small.csv", rows_of()), target="grade")  # so that imports are not counted
    tracemalloc.start()
    try:
        data = read(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(data.parts["train"][0], np.memmap)
    assert peak < n * width * 8  # what all numbers at once would take; mapped columns are not counted
