"""Where the four files are looked for, what becomes of those that are not right, downloads, and the embedded sample."""

import gzip
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock
from urllib.request import Request, urlopen

import pytest
import torch

from alexnet_lit.data import fashion_mnist
from alexnet_lit.data.fashion_mnist import SAMPLE, SAMPLE_DIR, fetch, load_fashion_mnist, load_sample
from alexnet_lit.errors import UserError
from tests.conftest import after_waiting

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = SAMPLE
FILES = {f"{name}.gz": (SAMPLE_DIR / f"{name}.gz").read_bytes() for name in SAMPLE}


def put(folder: Path, *names: str, raw: bool = False) -> Path:
    """Right files of the sample, all of them or those named, as gz or raw."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or SAMPLE:
        content = FILES[f"{name}.gz"]
        (folder / (name if raw else f"{name}.gz")).write_bytes(gzip.decompress(content) if raw else content)
    return folder


def places(folder: Path, *search: Path, mirrors: tuple[str, ...] = ()) -> dict[str, Path]:
    return fetch(dir=folder, search=[str(place) for place in search], mirrors=mirrors, expected=SAMPLE)


def mistake(folder: Path, *search: Path, mirrors: tuple[str, ...] = ()) -> str:
    with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
        places(folder, *search, mirrors=mirrors)
    return str(caught.value)


@pytest.mark.parametrize(("below", "raw"), [("", False), ("FashionMNIST/raw", True)])
def test_files_in_dir(tmp_path: Path, below: str, raw: bool) -> None:
    folder = put(tmp_path / below, raw=raw)
    data = load_fashion_mnist(dir=tmp_path, search=[], mirrors=[], expected=SAMPLE)
    (images, _), (_, labels) = data["train"], data["test"]
    assert images.shape == (2000, 28, 28)
    assert (labels.shape, labels.dtype) == ((500,), torch.int64)
    assert torch.equal(images, load_sample()["train"][0])
    assert places(tmp_path)[TRAIN_IMAGES] == folder / (TRAIN_IMAGES if raw else f"{TRAIN_IMAGES}.gz")


def test_dir_goes_before_search_and_search_runs_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USERPROFILE"):  # the latter on Windows
        monkeypatch.setenv(name, str(tmp_path))
    own = put(tmp_path / "own", TRAIN_IMAGES)
    first = put(tmp_path / "first", TRAIN_IMAGES, TRAIN_LABELS)
    second = put(tmp_path / "second" / "FashionMNIST" / "raw", raw=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert places(Path("~/own"), first, tmp_path / "absent", Path("~/second")) == {
        TRAIN_IMAGES: own / f"{TRAIN_IMAGES}.gz",
        TRAIN_LABELS: first / f"{TRAIN_LABELS}.gz",
        TEST_IMAGES: second / TEST_IMAGES,
        TEST_LABELS: second / TEST_LABELS,
    }
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, "nothing is written there"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda gz: gzip.compress(gzip.decompress(gz)[:-1] + b"?"), f"is not the published {TEST_LABELS} (sha256"),
        (lambda gz: gz[:-20], "can't be read (Compressed file ended before"),
        (lambda gz: gz[:40] + b"\xff" * 200, "can't be read (Error -3 while"),
    ],
)
def test_a_wrong_file_in_dir_is_named(tmp_path: Path, spoil: Callable[[bytes], bytes], words: str) -> None:
    own, other = put(tmp_path / "own"), put(tmp_path / "other")
    path = own / f"{TEST_LABELS}.gz"
    assert places(own, other)[TEST_LABELS] == path
    path.write_bytes(spoil(path.read_bytes()))  # after it has been read once, too
    assert mistake(own, other).startswith(f"{path} {words}")  # a right copy elsewhere is no reason to keep silent


def test_what_is_wrong_elsewhere_is_passed_over_and_what_is_nowhere_named_with_ways_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, broken, right = put(tmp_path / "own", TRAIN_IMAGES), put(tmp_path / "broken"), put(tmp_path / "right")
    (broken / f"{TRAIN_LABELS}.gz").write_bytes(b"")
    assert [places(own, broken, right)[name].parent for name in SAMPLE] == [own, right, broken, broken]
    assert caplog.messages[0].startswith(f"passed over: {broken / f'{TRAIN_LABELS}.gz'} is not the published")

    text = mistake(own, tmp_path / "other", own, tmp_path / "other")
    for words in (
        f"({TRAIN_LABELS}, {TEST_IMAGES}, {TEST_LABELS}: not in {own}, {tmp_path / 'other'})",
        "can't be downloaded from data.mirrors, which is empty: ",
        f"copy the four files, gz or raw, into data.dir={own}",
        "`apt-get install dataset-fashion-mnist`",
        "data=sample",
    ):
        assert words in text


@pytest.mark.skipif(not DEBIAN.exists(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_real_data(tmp_path: Path) -> None:
    data = load_fashion_mnist(dir=tmp_path, search=[str(DEBIAN)], mirrors=[])
    (images, labels), (test_images, test_labels) = data["train"], data["test"]
    assert (images.shape, test_images.shape) == ((60_000, 28, 28), (10_000, 28, 28))
    assert labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]
    assert test_labels[:10].tolist() == [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]
    assert labels.bincount().tolist() == [6000] * 10
    assert images.float().mean().item() / 255 == pytest.approx(0.2860, abs=5e-5)
    for (images, labels), sample, count in zip(data.values(), load_sample().values(), (200, 50), strict=True):
        of_class = [(labels == label).nonzero().flatten()[:count] for label in range(10)]
        chosen = torch.cat(of_class).sort().values  # the first of each class, in the order of the file
        assert torch.equal(images[chosen], sample[0])
        assert torch.equal(labels[chosen], sample[1])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that files are downloaded from."""
    seen: list[str] = []

    def watched(request: Request, timeout: float) -> object:
        seen.append(request.full_url)
        return urlopen(request, timeout=timeout)

    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(fashion_mnist, "urlopen", watched)
    return seen


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


@pytest.mark.posix
def test_the_first_mirror_that_has_it_right(tmp_path: Path, asked: list[str], caplog: pytest.LogCaptureFixture) -> None:
    own = put(tmp_path / "own", TRAIN_IMAGES)
    (own / f"{TRAIN_LABELS}.gz.part").touch()  # of a download that was killed
    cut, swapped, right = (put(tmp_path / name).as_uri() for name in ("cut", "swapped", "right"))
    os.truncate(tmp_path / "cut" / f"{TRAIN_LABELS}.gz", 500)
    shutil.copy(SAMPLE_DIR / f"{TRAIN_IMAGES}.gz", tmp_path / "swapped" / f"{TRAIN_LABELS}.gz")
    wrong = ("file:///nowhere", cut, swapped, "http://127.0.0.1:1", "http://a..b/", "none")
    assert places(own, mirrors=(*wrong, f"{right}/")) == {name: own / f"{name}.gz" for name in SAMPLE}
    assert left(own) == set(FILES)
    assert asked[-3:] == [f"{right}/{name}.gz" for name in (TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)]
    assert len(asked) + 1 == len(wrong) + 3, "the mirror that worked is asked first; the last has no address"
    words = ("No such file", "ended before", "is not what was published", "refused", "", "unknown url type")
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for address, text, why in zip(wrong, warnings, words, strict=True):
        assert text.startswith(f"{address.rstrip('/')}/{TRAIN_LABELS}.gz: ")
        assert why in text


def test_where_nothing_can_be_downloaded(tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # takes the call, and is silent
        silent = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert f"can't be downloaded from {silent}: copy the" in mistake(tmp_path / "own", mirrors=(silent,))
    assert (len(asked), left(tmp_path / "own")) == (1, set())
    (tmp_path / "file").touch()
    line = f"data.dir={tmp_path}/file/data can't be written (Not a directory)"
    assert mistake(tmp_path / "file" / "data", mirrors=("http://127.0.0.1:1",)).startswith(line)
    monkeypatch.setattr(Path, "write_bytes", Mock(side_effect=OSError(28, "No space left on device")))
    line = f"data.dir={tmp_path} can't be written (No space left on device)"
    assert mistake(tmp_path, mirrors=(SAMPLE_DIR.as_uri(),)).startswith(line)


def test_of_two_that_wait_one_downloads(tmp_path: Path, asked: list[str], caplog: pytest.LogCaptureFixture) -> None:
    one, other = after_waiting(lambda: places(tmp_path, mirrors=(SAMPLE_DIR.as_uri(),)), tmp_path, caplog)
    assert one == other
    assert sorted(asked) == sorted(f"{SAMPLE_DIR.as_uri()}/{name}" for name in FILES)
    assert left(tmp_path) == set(FILES)
