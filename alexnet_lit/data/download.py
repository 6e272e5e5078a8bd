"""Brings files from mirrors: resumed where they stopped, one process at a time, in place only once they are right."""

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from alexnet_lit.data.writing import alone, writing
from alexnet_lit.errors import Mistake

TIMEOUT_S = 5.0  # without a byte. Short, because what stalls is resumed
TRIES = 5  # connections to one mirror for one file
PAUSE_S = 0.5  # before a dropped connection is made again
SAY_EVERY_S = 5.0
LARGEST = 1 << 28  # bytes: no file of a data set used here is larger

_BLOCK = 1 << 16  # bytes
_NETWORK = (OSError, HTTPException, ValueError)  # ValueError: a host name that can't be one

logger = logging.getLogger("alexnet_lit")


class NoMirror(Exception):
    """No mirror gave a file. `args[0]` says why, one clause a mirror."""


class _Refused(Exception):
    """A mirror does not give the file."""


class _Dropped(Exception):
    """The connection ended early: what came is kept, and the same mirror is worth another try."""


def download(files: Sequence[str], *, into: Path, mirrors: Sequence[str], right: Callable[[str, Path], bool]) -> None:
    """Bring `files` into the folder `into`, each from the first of `mirrors` (base addresses) that has it right.

    A file grows as `<file>.part`, which a later call continues, and gets its name once `right(file, part)` holds. A
    file that another process brought meanwhile is left alone. Raises `NoMirror` where no mirror helps, and `Mistake`
    for a mirror that is no address and a folder that can't be written.
    """
    for mirror in mirrors:
        if not mirror.startswith(("http://", "https://")):
            raise Mistake(f"data.mirrors has {mirror!r}, not an address that starts with http:// or https://")
    order = [mirror.rstrip("/") for mirror in mirrors]
    with alone(into, lock=".download.lock", key="data.dir", doing="downloads"):
        missing = [file for file in files if not (into / file).exists()]
        if missing:
            _ask_all([f"{mirror}/{missing[0]}" for mirror in order])
        for file in missing:
            best = _download_one(file, into, order, right)
            order.sort(key=lambda mirror: mirror != best)  # the one that has just worked goes first


def _download_one(file: str, into: Path, mirrors: Sequence[str], right: Callable[[str, Path], bool]) -> str:
    """Bring one file and return the mirror that had it."""
    part, reasons = into / f"{file}.part", []
    for mirror in mirrors:
        try:
            _persist(f"{mirror}/{file}", part, lambda: right(file, part))
        except (_Refused, _Dropped) as reason:
            reasons.append(f"{_host(mirror)}: {reason}")
            logger.warning("%s from %s: %s", file, _host(mirror), reason)
            continue
        with writing(into, key="data.dir"):
            os.replace(part, into / file)
        return mirror
    raise NoMirror("; ".join(reasons))


def _persist(url: str, part: Path, right: Callable[[], bool]) -> None:
    """Complete `part` from one mirror, over as many connections as it takes, up to `TRIES`."""
    for left in reversed(range(TRIES)):
        had = _size(part)
        try:
            _transfer(url, part, had)
        except _Dropped:
            if not left:
                raise
            time.sleep(PAUSE_S)
            continue
        if right():
            return
        with writing(part.parent, key="data.dir"):
            part.unlink(missing_ok=True)
        if not had:
            raise _Refused("what it sends is not this file")
        # The beginning may be of another mirror's copy, or damaged: once more from the first byte.
    raise _Refused("what it sends is not this file")


def _transfer(url: str, part: Path, had: int) -> None:
    """Append to the `had` bytes of `part` over one connection, or start over where the server does not continue."""
    headers = {"User-Agent": "alexnet-lit"} | ({"Range": f"bytes={had}-"} if had else {})
    try:
        response: HTTPResponse = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()
        if error.code == 416 and had:  # nothing after these bytes: the part is whole, or wrong. The caller looks
            return
        raise _Refused(f"HTTP {error.code} {error.reason}") from error
    except _NETWORK as error:
        raise _Refused(_why(error)) from error
    with response, writing(part.parent, key="data.dir"):
        continues = response.status == 206
        done = had if continues else 0
        length = response.headers.get("Content-Length", "")
        total = done + int(length) if length.isdecimal() else None
        with part.open("ab" if continues else "wb") as out:
            for block in _blocks(response, part, done, total):
                out.write(block)


def _blocks(response: HTTPResponse, part: Path, done: int, total: int | None) -> Iterator[bytes]:
    """Yield the body in blocks and say how far it is every so often. `done` and `total` are bytes of the file."""
    name = part.name.split("-idx")[0]
    size = f" of {total / 1e6:.1f}" if total else ""
    started = said = time.monotonic()
    first = done
    logger.info("downloading %s from %s, %.1f%s MB", name, _host(response.url), done / 1e6, size)
    while True:
        try:
            block = response.read1(_BLOCK)  # what has come: nothing of it is lost if the next byte does not
        except _NETWORK as error:
            raise _Dropped(f"the connection ended after {done:,} bytes ({_why(error)})") from error
        if not block:
            break
        done += len(block)
        if done > LARGEST:
            raise _Refused(f"it sends more than {LARGEST:,} bytes")
        yield block
        now = time.monotonic()
        if now - said >= SAY_EVERY_S:
            said, speed = now, (done - first) / (now - started) / 1e6
            logger.info("downloading %s %.1f%s MB, %.1f MB/s", name, done / 1e6, size, speed)
    if total is not None and done < total:  # http.client takes a body cut short for a whole one
        raise _Dropped(f"the connection ended after {done:,} of {total:,} bytes")


def _ask_all(urls: Sequence[str]) -> None:
    """Raise `NoMirror` within seconds where none of `urls` answers, as on a machine whose network drops every packet.

    All are asked at once: a silent name server outlasts any time-out, and nobody should wait for that once a mirror.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def ask(url: str) -> None:
        try:
            urlopen(Request(url, method="HEAD", headers={"User-Agent": "alexnet-lit"}), timeout=TIMEOUT_S).close()
            answers.put(None)
        except HTTPError as error:  # an answer, whatever it says
            error.close()
            answers.put(None)
        except _NETWORK as error:
            answers.put(f"{_host(url)}: {_why(error)}")

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    reasons, deadline = [], time.monotonic() + TIMEOUT_S + 1
    for _ in urls:
        try:
            reason = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            reasons.append("no answer from the others")
            break
        if reason is None:
            return
        reasons.append(reason)
    raise NoMirror("; ".join(reasons) or "no mirror is given (data.mirrors is empty)")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _host(url: str) -> str:
    return urlsplit(url).netloc or url


def _why(error: Exception) -> str:
    """Give the reason in a few words. urllib wraps the one that counts."""
    reason = getattr(error, "reason", error)
    return str(getattr(reason, "strerror", None) or reason or type(reason).__name__)
