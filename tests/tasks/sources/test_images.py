"""Folders of pictures: decoded once, in the right place, with the right class."""

import sys

import numpy as np
import pytest
from PIL import Image

from fallline.errors import BadTask, BadValue, NotFound
from fallline.tasks.sources import images as images_module
from fallline.tasks.sources import read


def picture(path, color, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures of one color each: the red value is their number, the green value is their class."""
    for i in range(20):
        kind = "cat" if i % 2 else "dog"
        picture(tmp_path / "pets" / kind / f"{i}.png", (i, 100 * (i % 2), 7))
    return tmp_path / "pets"


def test_every_picture_is_in_one_part_with_its_class(folder):
    data = read(folder, size=4)
    assert data.facts["classes"] == ["cat", "dog"]
    assert {part: X.shape for part, (X, _) in data.parts.items()} == {
        "train": (12, 3, 4, 4), "validation": (4, 3, 4, 4), "test": (4, 3, 4, 4),
    }  # fmt: skip
    numbers = []
    for X, y in data.parts.values():
        assert X.dtype == np.uint8
        assert (X[:, :, :1, :1] == X).all()  # one color each
        assert (X[:, 1, 0, 0] == np.where(y == 0, 100, 0)).all()
        assert (X[:, 2] == 7).all()
        numbers += X[:, 0, 0, 0].tolist()
    assert sorted(numbers) == list(range(20))


def test_parts_that_come_apart(tmp_path):
    for part, count in (("train", 6), ("validation", 4), ("test", 2)):
        for i in range(count):
            picture(tmp_path / "set" / part / "ab"[i % 2] / f"{i}.jpg", (50, 50, 50), quality=95)
    data = read(tmp_path / "set")
    assert {part: len(y) for part, (_, y) in data.parts.items()} == {"train": 6, "validation": 4, "test": 2}
    assert data.parts["train"][0].shape[1:] == (3, 32, 32)
    picture(tmp_path / "set" / "test" / "c" / "1.png", (1, 1, 1))
    with pytest.raises(BadTask, match="the test part of set has the class 'c', which train does not have"):
        read(tmp_path / "set")


def test_a_picture_is_cut_to_a_square_about_its_middle(tmp_path):
    for kind in "ab":
        (tmp_path / "wide" / kind).mkdir(parents=True)
        for i in range(5):
            wide = np.zeros((4, 12, 3), dtype=np.uint8)
            wide[:, 4:8] = 200
            Image.fromarray(wide).save(tmp_path / "wide" / kind / f"{i}.png")
    assert (read(tmp_path / "wide", size=4).parts["train"][0] == 200).all()
    gray = read(tmp_path / "wide", size=4, gray=True).parts["train"][0]
    assert gray.shape[1:] == (1, 4, 4)
    assert (gray == 200).all()


def test_pictures_are_decoded_once_until_one_changes(folder, monkeypatch):
    first = read(folder, size=4)
    with monkeypatch.context() as patch:
        patch.setattr(images_module, "_decode", lambda *_: pytest.fail("decoded again"))
        again = read(folder, size=4)
    assert np.array_equal(first.parts["train"][0], again.parts["train"][0])
    picture(folder / "cat" / "1.png", (90, 100, 7))
    numbers = [X[:, 0, 0, 0].tolist() for X, _ in read(folder, size=4).parts.values()]
    assert 90 in np.concatenate(numbers)


def test_what_is_being_done_is_said(folder, capsys, kept):
    read(folder, size=4)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"reading the pictures of pets, once; it is kept in {kept} …\nreading the pictures of pets: 20 of 20\n"
    )


def test_a_picture_that_cannot_be_read(folder, kept):
    path = folder / "cat" / "3.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(BadTask, match=r"cat/3.png cannot be read as a picture: .*; mend it or take it away"):
        read(folder)
    assert list(kept.iterdir()) == []


def test_folders_that_cannot_be_used(tmp_path, folder, monkeypatch):
    picture(tmp_path / "one" / "only" / "1.png", (1, 2, 3))
    with pytest.raises(
        BadTask, match="one has pictures of 1 classes: put those of each class into a sub-folder"
    ):
        read(tmp_path / "one")
    with pytest.raises(
        BadValue, match="size is the height and width of a picture, a whole number of at least 1; got 0"
    ):
        read(folder, size=0)
    with pytest.raises(
        BadValue,
        match="pets is read as a folder of pictures, which has no option 'grai'; did you mean 'gray'",
    ):
        read(folder, grai=True)
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(NotFound, match=r"pictures need Pillow to be read: pip install 'fallline\[data\]'"):
        read(folder)
