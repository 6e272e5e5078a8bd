"""Which pictures a folder holds, of which classes; and one line for a folder that can't be trained on."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alexnet_lit.data.folder import Found, look, scan, several
from alexnet_lit.errors import UserError


def touch(root: Path, *names: str) -> Path:
    """Files without content: names are all that is looked at. A name that ends in / is a folder."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(exist_ok=True) if name.endswith("/") else path.touch()
    return root


def test_a_class_is_a_folder_and_all_that_is_below_it(tmp_path: Path) -> None:
    touch(tmp_path, "train/dog/a.JPG", "train/dog/old/er/b.jpeg", "train/cat/c.png", "train/Ünï cödé/d.webp")
    touch(tmp_path, "val/cat/e.bmp", "test/dog/f.tif", "test/dog/g.gif", "test/cat/")

    found, names = look(tmp_path)
    assert found[:4] == Found(["cat", "dog", "Ünï cödé"], train=4, val=1, test=2)[:4]
    assert names == ["cat/c.png", "dog/a.JPG", "dog/old/er/b.jpeg", "Ünï cödé/d.webp"]
    assert names == scan(tmp_path / "train").names


def test_what_is_no_picture_is_passed_over_and_what_is_hidden_not_seen(tmp_path: Path) -> None:
    touch(tmp_path, "train/cat/1.jpg", "train/dog/2.jpg", "train/README", "train/3.jpg", "train/dog/notes.txt")
    touch(tmp_path, "train/.DS_Store", "train/cat/._1.jpg", "train/.ipynb_checkpoints/4.jpg", "train/cat/.trash/5.jpg")
    listing = scan(tmp_path / "train")
    assert listing.names == ["cat/1.jpg", "dog/2.jpg"]
    assert listing.others == ["3.jpg", "README", "dog/notes.txt"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.jpg", "elsewhere/deep/2.jpg", "train/dog/3.jpg")
    (tmp_path / "train" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "round").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "train" / "dog" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    names = ["cat/1.jpg", "cat/deep/2.jpg", "dog/3.jpg", "dog/gone.jpg"]
    assert scan(tmp_path / "train").names == names, "a link to nowhere is a picture, a broken one"


CATS_AND_DOGS = ("train/cat/1.jpg", "train/dog/2.jpg")
MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "nothing": ((), "there is no train/ in it: put a folder for each class into train/"),
    "no split": (("cat/1.jpg", "dog/2.jpg"), "there is no train/ in it, but cat/, dog/: put a folder for each class"),
    "train is a file": (("train",), "train/ in it is no folder"),
    "no classes": (("train/",), "train/ has no folders in it: each class needs a folder of its own"),
    "no class folders": (("train/1.jpg", "train/2.jpg"), "train/ has no folders in it, but 1.jpg, 2.jpg: each class"),
    "no pictures": (("train/cat/a.heic", "train/dog/"), "there is no picture in train/ (passed over: cat/a.heic): it"),
    "an empty class": ((*CATS_AND_DOGS, "train/fox/"), "no picture in train/fox/: put some in, or remove the folder"),
    "one class": (("train/cat/1.jpg",), "train/ has one class (cat): a net needs two"),
    "another class": (
        (*CATS_AND_DOGS, "val/fox/3.jpg"),
        "val/fox/: train/ has no such class, only cat, dog: both need",
    ),
    "an empty val": ((*CATS_AND_DOGS, "val/cat/"), "there is no picture in val/: put some in, or remove the folder"),
    "test is a file": ((*CATS_AND_DOGS, "test"), "test/ in it is no folder"),
    "a name that YAML takes": ((*CATS_AND_DOGS, "train/${x}/1.jpg"), "a class can't be named '${x}'"),
    "a name of two lines": ((*CATS_AND_DOGS, "train/a\nb/1.jpg"), r"a class can't be named 'a\nb'"),
    "a name of no text": ((*CATS_AND_DOGS, "train/\udcff/1.jpg"), r"a class can't be named '\udcff'"),
}


@pytest.mark.parametrize(("names", "line"), MISTAKES.values(), ids=MISTAKES)
def test_a_folder_that_cannot_be_trained_on(names: tuple[str, ...], line: str, tmp_path: Path) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UserError) as caught:
        look(tmp_path)
    assert str(caught.value).startswith(f"data.dir={tmp_path}: {line}")
    assert "\n" not in str(caught.value)


def test_a_place_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is not there: name the folder that has train/<class>/<picture>"):
        look(tmp_path / "none")
    with pytest.raises(UserError, match="it is no folder"):
        look(touch(tmp_path, "file") / "file")


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *CATS_AND_DOGS, "train/dog/closed/")
    real = os.scandir

    def closed(path: Path) -> object:
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(UserError, match="train/dog/closed can't be read \\(Permission denied\\)"):
        look(tmp_path)


def test_several_of_many_on_one_line() -> None:
    assert several(["a", "b"]) == "a, b"
    assert several(["a\n", "\udcff", "c", "d", "e"]) == r"a\n, \udcff, c and 2 more"


NAME = st.sampled_from(
    ["train", "val", "test", "cat", "dog", "é", "a b", ".x", "1.jpg", "2.PNG", "no.txt", "\udcff.gif"]
)
TREE = st.lists(
    st.tuples(st.lists(NAME, min_size=1, max_size=4), st.sampled_from(["file", "folder", "link"])), max_size=12
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREE)
def test_any_tree_is_looked_at_or_refused_in_a_line(
    tmp_path_factory: pytest.TempPathFactory, tree: list[tuple[list[str], str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for parts, kind in tree:
        path = root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "link":
                path.symlink_to(root)
            else:
                touch(path.parent, path.name + "/" * (kind == "folder"))
        except OSError:
            continue  # there already, or below a file
    try:
        found, _ = look(root)
    except UserError as mistake:
        line = str(mistake)
        found = None
    else:
        line = f"data.dir={root}: fine"
    assert line.startswith(f"data.dir={root}: ")
    assert "\n" not in line
    if found is not None:
        assert len(found.classes) >= 2
        assert found.train == len(scan(root / "train").names) >= len(found.classes)
