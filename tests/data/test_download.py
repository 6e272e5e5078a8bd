"""Downloads, from servers on this machine that drop, cut, swap and refuse as the world's do."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from alexnet_lit.data import download as module
from alexnet_lit.data.download import NoMirror, download
from alexnet_lit.data.files import SAMPLE, SAMPLE_DIR, fetch, load_fashion_mnist
from alexnet_lit.errors import Mistake

FILE = "train-images-idx3-ubyte.gz"
CONTENT = os.urandom(300_000)


class Mirror(ThreadingHTTPServer):
    """Serves `files`; `drops` lists after how many bytes the next answers end early; `asked` is what was asked for."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files = files
        self.drops: list[int] = []
        self.ranges = True
        self.wait_s = 0.0
        self.asked: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Answer(BaseHTTPRequestHandler):
    server: Mirror

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        mirror, wanted = self.server, self.headers["Range"]
        mirror.asked.append((self.path[1:], wanted))
        time.sleep(mirror.wait_s)
        content = mirror.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and mirror.ranges else 0
        if start and start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + mirror.drops.pop(0) if mirror.drops else len(content)
        self.wfile.write(content[start:end])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


Serve = Callable[[dict[str, bytes]], Mirror]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(module, "PAUSE_S", 0.01)
    mirrors = []

    def start(files: dict[str, bytes]) -> Mirror:
        mirrors.append(Mirror(files))
        threading.Thread(target=mirrors[-1].serve_forever, kwargs={"poll_interval": 0.01}).start()
        return mirrors[-1]

    yield start
    for mirror in mirrors:
        mirror.shutdown()
        mirror.server_close()


def bring(into: Path, *mirrors: Mirror | str, files: Sequence[str] = (FILE,)) -> None:
    urls = [mirror if isinstance(mirror, str) else mirror.url for mirror in mirrors]
    download(files, into=into, mirrors=urls, right=lambda _, part: part.read_bytes() == CONTENT)


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".download.lock"}


def test_a_file_is_brought_and_nothing_else_is_left(tmp_path: Path, serve: Serve) -> None:
    mirror = serve({FILE: CONTENT})
    bring(tmp_path / "new" / "folder", mirror)
    assert (tmp_path / "new" / "folder" / FILE).read_bytes() == CONTENT
    assert left(tmp_path / "new" / "folder") == {FILE}
    assert mirror.asked == [(FILE, None)]


def test_a_dropped_connection_is_resumed(tmp_path: Path, serve: Serve) -> None:
    mirror = serve({FILE: CONTENT})
    mirror.drops = [100_000, 50_000]
    bring(tmp_path, mirror)
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert [wanted for _, wanted in mirror.asked] == [None, "bytes=100000-", "bytes=150000-"]


def test_an_interrupted_download_goes_on_in_the_next_call(tmp_path: Path, serve: Serve) -> None:
    mirror = serve({FILE: CONTENT})
    mirror.drops = [70_000] + [0] * (module.TRIES - 1)
    with pytest.raises(NoMirror, match="the connection ended after 70,000 of 300,000 bytes"):
        bring(tmp_path, mirror)
    assert left(tmp_path) == {f"{FILE}.part"}
    mirror.asked.clear()
    bring(tmp_path, mirror)
    assert mirror.asked == [(FILE, "bytes=70000-")]
    assert (tmp_path / FILE).read_bytes() == CONTENT


def test_a_server_that_does_not_resume_starts_over(tmp_path: Path, serve: Serve) -> None:
    mirror = serve({FILE: CONTENT})
    mirror.ranges, mirror.drops = False, [100_000]
    bring(tmp_path, mirror)
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert len(mirror.asked) == 2


@pytest.mark.parametrize(
    ("part", "asked"),
    [
        pytest.param(CONTENT, ["bytes=300000-"], id="whole, but not yet moved: 416, and it is right"),
        pytest.param(CONTENT + b"more", ["bytes=300004-", None], id="longer than the file: 416, and it is wrong"),
        pytest.param(b"something else", ["bytes=14-", None], id="the beginning of another file"),
    ],
)
def test_a_part_that_lies_there(tmp_path: Path, serve: Serve, part: bytes, asked: list[str | None]) -> None:
    mirror = serve({FILE: CONTENT})
    (tmp_path / f"{FILE}.part").write_bytes(part)
    bring(tmp_path, mirror)
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert [wanted for _, wanted in mirror.asked] == asked
    assert left(tmp_path) == {FILE}


def test_the_next_mirror_is_asked(tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    wrong, empty, right = serve({FILE: b"<html>please log in</html>"}), serve({}), serve({FILE: CONTENT})
    with caplog.at_level(logging.WARNING, logger="alexnet_lit"):
        bring(tmp_path, wrong, empty, "http://127.0.0.1:1", right)
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert len(wrong.asked) == len(empty.asked) == len(right.asked) == 1
    reasons = [record.getMessage().split(": ", 1)[1] for record in caplog.records]
    assert reasons == ["what it sends is not this file", "HTTP 404 Not Found", "Connection refused"]


def test_the_mirror_that_worked_is_asked_first_for_the_next_file(tmp_path: Path, serve: Serve) -> None:
    empty, right = serve({}), serve({"one": CONTENT, "two": CONTENT})
    bring(tmp_path, empty, right, files=["one", "two"])
    assert empty.asked == [("one", None)]
    assert left(tmp_path) == {"one", "two"}


def test_wrong_content_is_never_put_in_place(tmp_path: Path, serve: Serve) -> None:
    with pytest.raises(NoMirror, match="what it sends is not this file"):
        bring(tmp_path, serve({FILE: CONTENT[:-1]}))
    assert left(tmp_path) == set()


def test_a_server_that_never_ends_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setattr(module, "LARGEST", len(CONTENT) - 1)
    with pytest.raises(NoMirror, match="it sends more than 299,999 bytes"):
        bring(tmp_path, serve({FILE: CONTENT}))


def test_no_answer_takes_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    silent = serve({})
    monkeypatch.setattr(Answer, "do_HEAD", lambda _: time.sleep(0.5))
    start = time.monotonic()
    with pytest.raises(NoMirror, match="timed out"):
        bring(tmp_path, silent, silent, silent)
    assert time.monotonic() - start < 1.5
    assert silent.asked == []


def test_a_stalled_connection_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    mirror = serve({FILE: CONTENT})
    answer = Answer.do_GET

    def stall(self: Answer) -> None:
        mirror.drops, first = ([100_000] if not mirror.asked else []), not mirror.asked
        answer(self)
        if first:
            self.wfile.flush()
            time.sleep(0.6)

    monkeypatch.setattr(Answer, "do_GET", stall)
    bring(tmp_path, mirror)
    assert [wanted for _, wanted in mirror.asked] == [None, "bytes=100000-"]
    assert (tmp_path / FILE).read_bytes() == CONTENT


@pytest.mark.parametrize("mirror", ["ftp://127.0.0.1/", "/usr/share", "file:///etc"])
def test_a_mirror_that_is_no_address(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(Mistake, match=f"data.mirrors has '{mirror}', not an address that starts with http"):
        bring(tmp_path, mirror)


@pytest.mark.parametrize("mirror", ["http://", "http://a..b/", f"http://{'a' * 70}.invalid/", "http://127.0.0.1:port/"])
def test_a_mirror_that_can_not_be(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(NoMirror):
        bring(tmp_path, mirror)


def test_no_mirror_at_all(tmp_path: Path) -> None:
    with pytest.raises(NoMirror, match=r"data\.mirrors is empty"):
        bring(tmp_path)


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Mistake, match=rf"data\.dir={tmp_path}/file/data can't be written \(Not a directory\)"):
        bring(tmp_path / "file" / "data", "http://127.0.0.1:1")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk(tmp_path: Path, serve: Serve) -> None:
    (tmp_path / f"{FILE}.part").symlink_to("/dev/full")
    with pytest.raises(Mistake, match=rf"data\.dir={tmp_path} can't be written \(No space left on device\)"):
        bring(tmp_path, serve({FILE: CONTENT}))


def test_progress_is_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "SAY_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, logger="alexnet_lit"):
        bring(tmp_path, serve({FILE: CONTENT}))
    first, *_, last = [record.getMessage() for record in caplog.records]
    assert first.startswith("downloading train-images from 127.0.0.1:")
    assert last.startswith("downloading train-images 0.3 of 0.3 MB, ")
    assert last.endswith(" MB/s")


PROCESS = """
import importlib.util, logging, sys
from pathlib import Path
logging.basicConfig(level="INFO", format="%(message)s", stream=sys.stdout)
spec = importlib.util.spec_from_file_location("download", sys.argv[1])  # the file alone: nothing here needs torch
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
module.download(sys.argv[3].split(","), into=Path(sys.argv[2]), mirrors=[sys.argv[4]], right=lambda *_: True)
"""


def test_of_two_processes_one_downloads_and_one_waits(tmp_path: Path, serve: Serve) -> None:
    mirror = serve({"one": CONTENT, "two": CONTENT})
    mirror.wait_s = 0.7
    command = [sys.executable, "-c", PROCESS, str(module.__file__), str(tmp_path), "one,two", mirror.url]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    output = "".join(process.communicate(timeout=30)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(name for name, _ in mirror.asked) == ["one", "two"]
    assert output.count(f"waiting for another process, which downloads into {tmp_path}") == 1
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == CONTENT


def test_what_is_missing_of_a_data_set_is_downloaded(tmp_path: Path, serve: Serve) -> None:
    files = {f"{name}.gz": (SAMPLE_DIR / f"{name}.gz").read_bytes() for name in SAMPLE}
    first, *others = files
    (tmp_path / first).write_bytes(files[first])
    cut = serve(dict.fromkeys(others, files[first][:1000]))
    swapped = serve(dict.fromkeys(others, files[first]))  # sound gz files of the wrong content
    mirror = serve(files)
    urls = [cut.url, swapped.url, mirror.url]
    data = load_fashion_mnist(dir=tmp_path, search=[], mirrors=urls, expected=SAMPLE)
    assert len(data.train.images) == 2000
    assert [name for name, _ in mirror.asked] == others
    assert left(tmp_path) == set(files)
    assert set(fetch(dir=tmp_path, search=[], mirrors=[], expected=SAMPLE)) == set(SAMPLE)  # and is there from now on
    assert len(mirror.asked) == 3


def test_a_mirror_without_the_data_set_is_one_readable_line(tmp_path: Path, serve: Serve) -> None:
    mirror = serve({})
    with pytest.raises(Mistake) as caught:
        fetch(dir=tmp_path, search=[], mirrors=[mirror.url], expected=SAMPLE)
    text = str(caught.value)
    assert f"can't be downloaded (127.0.0.1:{mirror.server_port}: HTTP 404 Not Found)" in text
    assert "\n" not in text
