"""The server behind the page: for this machine alone, silent towards the rest of the world, gone when it is stopped."""

import os
import signal
import socket
import tempfile
import threading
import webbrowser
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.request import getproxies

from alexnet_lit.errors import UserError
from alexnet_lit.terminal import hangup
from alexnet_lit.tools.predict.guess import Guesser

_HOST = "127.0.0.1"


class _Stopped(Exception):
    """A signal, its number in `args`, asks for the end."""


def serve(guesser: Guesser, file: Path, *, port: int | None, browse: bool) -> int:
    """Show the page for the net of `file` until Ctrl-C, SIGTERM or SIGHUP; returns the exit status of such an end.

    Dropped pictures are kept in a folder of their own meanwhile. Raises: UserError if `port` is taken.
    """
    if port is not None and not _is_free(port):
        raise UserError(f"--port={port}: something else listens there: name another, or leave it out for a free one")
    before = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM, *hangup())}
    try:
        with tempfile.TemporaryDirectory(prefix="alexnet_lit_demo_") as scratch:
            _show(guesser, file, port or _free_port(), scratch=scratch, browse=browse)
    except _Stopped as stopped:
        return 128 + int(stopped.args[0])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _show(guesser: Guesser, file: Path, port: int, *, scratch: str, browse: bool) -> None:
    # Gradio reads these when it is imported; its check that it answers must not go through a proxy.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "GRADIO_TEMP_DIR": scratch}
    os.environ["no_proxy"] = f"{getproxies().get('no', '')},{_HOST}"
    from alexnet_lit.tools.demo.page import LOOK, page

    blocks = page(guesser, file)
    # What the environment might turn on is turned off.
    alone: dict[str, Any] = {"share": False, "run_history": False, "ssr_mode": False, "mcp_server": False}
    blocks.launch(
        server_name=_HOST, server_port=port, prevent_thread_lock=True, quiet=True, num_workers=0, **alone, **LOOK
    )
    try:
        address = f"http://{_HOST}:{port}"
        print(f"{address} shows {file}; Ctrl-C ends it", flush=True)
        if browse:
            webbrowser.open(address)
        threading.Event().wait()
    finally:
        blocks.close(verbose=False)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _Stopped(number)


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    try:
        socket.create_server((_HOST, port)).close()
    except OSError:
        return False
    return True
