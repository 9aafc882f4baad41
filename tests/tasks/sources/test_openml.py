"""Data sets of OpenML, from a server that answers as OpenML does: whole, kept, and with every fault on the way."""

import json
import os
import socket

import numpy as np
import pytest

from fallline.errors import BadStore, NotFound
from fallline.tasks import adult, cifar10, fashion_mnist, find, mnist
from fallline.tasks.sources import openml

DIGITS = tuple("0123456789")


def pixels(count, n=70, classes=10):
    """Pictures whose every pixel is known: row r, pixel p is (7r + p) mod 256, and row r is of the class r mod 10."""
    return [[(7 * r + p) % 256 for p in range(count)] + [r % classes] for r in range(n)]


def add_pictures(server, name, count, n=70, **options):
    columns = {f"pixel{p + 1}": "real" for p in range(count)} | {"class": [str(c) for c in range(10)]}
    server.add(name, columns, pixels(count, n), **options)


def add_adult(server, n=60):
    columns = {
        "age": "real", "workclass": ["Private", "State gov"], "sex": ["Female", "Male"], "class": ["<=50K", ">50K"],
    }  # fmt: skip
    rows = [
        [20 + r, "?" if r % 7 == 0 else ("Private", "State gov")[r % 2], ("Female", "Male")[r % 3 == 0], (">50K", "<=50K")[r % 2]]
        for r in range(n)
    ]  # fmt: skip
    server.add("adult", columns, rows)
    return rows


def fetched(server):
    return server.asked.count("download")


# --- what comes whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize(("name", "make"), [("mnist_784", mnist), ("Fashion-MNIST", fashion_mnist)])
def test_pictures_come_as_bytes_and_the_last_seventh_tests(server, name, make, compressed):
    server.compressed = compressed
    add_pictures(server, name, 784)
    task = make()
    assert [task.size(part) for part in ("train", "validation", "test")] == [48, 12, 10]
    rows = np.array(pixels(784))
    assert np.array_equal(task.parts["test"]["inputs"].numpy().reshape(10, 784), rows[60:, :-1])
    assert task.parts["test"]["target"].tolist() == rows[60:, -1].tolist()
    assert str(task.parts["train"]["inputs"].dtype) == "torch.uint8"
    assert tuple(task.parts["train"]["inputs"].shape[1:]) == (1, 28, 28)
    both = np.concatenate([task.parts[p]["inputs"].numpy().reshape(-1, 784) for p in ("train", "validation")])
    assert np.array_equal(np.sort(both[:, 0]), np.sort(rows[:60, 0] % 256))
    assert task.facts["parameters"] == 50_890
    assert task.facts["source"]["from"] == f"OpenML {name}, version 1"
    assert task.facts["source"]["md5"] == server.sets[name.lower()]["md5"]
    task.check()


def test_color_photographs_and_their_channels(server):
    add_pictures(server, "CIFAR_10", 3072)
    task = cifar10()
    assert [task.size(part) for part in ("train", "validation", "test")] == [42, 14, 14]
    inputs, target = task.parts["train"]["inputs"], task.parts["train"]["target"]
    assert tuple(inputs.shape[1:]) == (3, 32, 32)
    of = {tuple(row[:8]): row for row in pixels(3072)}
    for picture, label in zip(inputs.numpy(), target.tolist(), strict=True):
        row = of[tuple(picture[0, 0, :8].tolist())]
        assert picture.reshape(-1).tolist() == row[:-1]
        assert label == row[-1]
    assert task.facts["parameters"] == 25_578
    assert task.facts["source"]["classes"][9] == "truck"


def test_a_table_of_numbers_and_categories(server):
    rows = add_adult(server)
    task = adult()
    features = task.facts["source"]["features"]
    assert features == ["age", "workclass=Private", "workclass=State gov", "workclass=missing", "sex=Male"]
    assert task.facts["source"]["classes"] == ["<=50K", ">50K"]
    assert task.facts["source"]["filled"] == {"workclass": sum(row[1] == "?" for row in rows)}
    train = task.parts["train"]["inputs"].numpy()
    assert train[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert train[:, 0].std() == pytest.approx(1, rel=1e-6)
    scale = task.facts["source"]["scaled"]["age"]
    for columns in task.parts.values():
        for x, y in zip(columns["inputs"].numpy(), columns["target"].tolist(), strict=True):
            _, work, sex, earns = rows[round(x[0] * scale["deviation"] + scale["mean"]) - 20]
            assert x[1:4].tolist() == [work == "Private", work == "State gov", work == "?"]
            assert x[4] == (sex == "Male")
            assert y == (earns == ">50K")


# --- what is kept ---------------------------------------------------------------------------------------------


def test_the_second_time_nothing_is_asked_for(server, kept):
    add_pictures(server, "mnist_784", 784)
    first = mnist()
    asked = list(server.asked)
    again = find("mnist")
    assert server.asked == asked
    assert again.facts == first.facts
    (entry,) = kept.iterdir()
    assert sorted(f.name for f in entry.iterdir()) == ["X.npy", "about.json", "y.npy"]


@pytest.mark.parametrize("file", ["X.npy", "y.npy", "about.json"])
@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_a_damaged_entry_is_made_again(server, kept, file, harm):
    add_pictures(server, "mnist_784", 784)
    first = mnist()
    (entry,) = kept.iterdir()
    whole = (entry / file).read_bytes()
    if harm == "gone":
        (entry / file).unlink()
    else:
        (entry / file).write_bytes(whole[: len(whole) // 2] if harm == "cut" else b"?" + whole[1:])
    assert mnist().facts == first.facts
    assert fetched(server) == 2
    assert (entry / file).read_bytes() == whole
    assert len(list(kept.iterdir())) == 1


def test_what_is_being_done_is_said_on_standard_error(server, capsys, kept):
    add_pictures(server, "mnist_784", 784)
    mnist()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"fetching mnist_784 from OpenML, once; it is kept in {kept} …\n")
    assert " MB\n" in said.err
    mnist()
    assert capsys.readouterr().err == ""


# --- what goes wrong ------------------------------------------------------------------------------------------

AGAIN = "nothing was kept: try again, or pass data of your own"


@pytest.mark.parametrize(
    ("faults", "error", "sentence"),
    [
        ({"list": 412}, NotFound, r"OpenML has no data set mnist_784 \(version 1\): look for its name at openml.org"),
        ({"list": 404}, NotFound, r"no data set mnist_784 \(version 1\): it answered with status 404"),
        ({"data": 412}, NotFound, r"OpenML has no data set mnist_784 \(version 1\): look for its name"),
        ({"list": 503}, BadStore, rf"OpenML could not give mnist_784 \(version 1\): it answered with status 503; {AGAIN} later"),
        ({"download": 503}, BadStore, r"it answered with status 503; nothing was kept"),
        ({"list": "cut"}, BadStore, rf"what came of mnist_784 \(version 1\) from OpenML was cut short or is damaged; {AGAIN}"),
        ({"download": "cut"}, BadStore, "from OpenML was cut short or is damaged"),
        ({"list": "closed"}, BadStore, r"OpenML cannot be reached for mnist_784 .*; data are fetched once, which needs a network"),
        ({"download": "closed"}, BadStore, "OpenML cannot be reached for mnist_784"),
        ({"list": "silent"}, BadStore, "OpenML cannot be reached for mnist_784 .*: timed out; data are fetched once"),
        ({"download": "silent"}, BadStore, "cannot be reached for mnist_784 .*: timed out"),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_faults_on_the_way(server, kept, monkeypatch, faults, error, sentence):
    monkeypatch.setattr(openml, "TIMEOUT", 0.3)
    add_pictures(server, "mnist_784", 784)
    server.faults = faults
    with pytest.raises(error, match=sentence) as caught:
        mnist()
    assert "\n" not in str(caught.value)
    assert list(kept.rglob("*")) == []  # nothing is left, and so nothing is in the way
    server.faults = {}
    assert mnist().size("test") == 10


def test_a_download_that_is_cut_and_not_compressed(server, kept):
    """Its end cannot be seen from the bytes, but its checksum can."""
    server.compressed = False
    add_pictures(server, "mnist_784", 784)
    server.faults = {"download": "cut"}
    with pytest.raises(
        BadStore, match="does not match OpenML's checksum: it was cut short or changed on its way"
    ):
        mnist()
    assert list(kept.rglob("*")) == []


def test_a_wrong_checksum(server, kept):
    add_pictures(server, "mnist_784", 784, md5="0" * 32)
    with pytest.raises(
        BadStore, match=r"what came of mnist_784 \(version 1\) does not match OpenML's checksum"
    ):
        mnist()
    assert list(kept.rglob("*")) == []


def test_data_that_cannot_be_read(server):
    server.add("mnist_784", {"pixel1": "real", "class": ["0", "1"]}, [["many", 0], [1, 1]])
    with pytest.raises(BadStore, match=r"mnist_784 \(version 1\) from OpenML cannot be read: "):
        mnist()


def test_no_network(server, monkeypatch):
    server.close()
    with pytest.raises(BadStore, match=r"OpenML cannot be reached for mnist_784 .*refused"):
        mnist()
    assert socket.getdefaulttimeout() is None


def test_a_folder_that_cannot_be_written(server, kept, monkeypatch):
    kept.write_text("a file where the folder should be")
    with pytest.raises(
        BadStore, match=r"data cannot be kept in .*; set FALLLINE_CACHE to a folder that can be written"
    ):
        mnist()
    assert server.asked == []


def test_facts_are_plain(server):
    add_adult(server)
    json.dumps(dict(adult().facts))
    assert os.environ["FALLLINE_CACHE"]
