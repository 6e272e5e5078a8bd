"""`demo`: what it shows of a picture, how it starts and ends, and its page in a real browser."""

import json
import os
import re
import signal
import socket
import sys
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch
from PIL import Image, ImageStat
from playwright.sync_api import expect

from alexnet_lit.config import checkpoint_file
from alexnet_lit.data.fashion_mnist import load_sample
from alexnet_lit.data.picture import Broken
from alexnet_lit.tools.demo import explain, grid
from alexnet_lit.tools.predict import Predictor
from tests.browser import CHROMIUM, browser, served
from tests.conftest import Train

BOOT = Image.fromarray(load_sample()["test"][0][0].numpy())
# The first bytes of a picture that the page sends.
UPLOAD = b"POST /gradio_api/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n"
UPLOAD += b"Content-Type: multipart/form-data; boundary=part\r\n\r\n--part\r\n"
EXTRA = pytest.mark.skipif(find_spec("gradio") is None, reason="needs alexnet-lit[demo]")


def test_what_goes_into_the_net_and_the_probabilities_of_predict(lenet: Path, verb: Train, tmp_path: Path) -> None:
    BOOT.point(lambda value: 255 - value).save(tmp_path / "boot.png")
    (found,) = json.loads(verb("predict", str(lenet), "boot.png", "--json", "--top=10").out)
    predictor = Predictor(checkpoint_file(lenet), device="cpu")

    shown = explain(predictor, BytesIO((tmp_path / "boot.png").read_bytes()))

    expected = {one["class"]: one["probability"] for one in found["classes"]}
    assert [*shown.probabilities] == [*expected]
    assert shown.probabilities == pytest.approx(expected, abs=1e-6)
    assert shown.steps == found["picture"] == "28x28, inverted"
    assert (shown.seen.mode, shown.seen.tobytes()) == ("L", BOOT.tobytes())
    assert shown.maps is not None
    assert shown.maps.size == (962, 162)  # six maps of 28 px, enlarged
    with pytest.raises(Broken, match="none of JPEG, PNG"):
        explain(predictor, BytesIO(b"no picture"))


def test_maps_share_a_scale() -> None:
    maps = torch.zeros(96, 300, 300)
    maps[1], maps[17] = 1, 0.5  # the second of the first row, and of the second
    page = grid(maps)
    assert page.size == (962, 362)
    places = ((30, 30), (90, 30), (90, 90))
    none, much, half = (ImageStat.Stat(page.crop((x, y, x + 9, y + 9))).sum[0] for x, y in places)
    assert none > half > much, "the stronger the darker"


@EXTRA
@pytest.mark.slow
def test_a_person_uses_its_page_and_ctrl_c_ends_it_quietly(lenet: Path, tmp_path: Path) -> None:
    with served(sys.executable, "-m", "alexnet_lit", "demo", str(lenet), scratch=tmp_path) as (process, address):
        if CHROMIUM is not None:
            drop_and_draw(address, tmp_path)
        port = urlsplit(address).port or 0
        with socket.create_connection(("127.0.0.1", port), timeout=5) as page:
            page.sendall(UPLOAD)
            page.shutdown(socket.SHUT_WR)  # as if it was closed meanwhile
            assert page.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):  # where a server of all addresses would answer
            socket.create_connection(("127.0.0.2", port), timeout=5).close()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(20) == 130
    line = rf"{address} shows {lenet}/checkpoints/best\.ckpt; Ctrl-C ends it\n"
    assert re.fullmatch(line, (tmp_path / "served.log").read_text())
    assert not list(tmp_path.glob("alexnet_lit_demo_*"))


def drop_and_draw(address: str, folder: Path) -> None:
    """Drop a picture and a file that is none, and draw, in a browser."""
    BOOT.point(lambda value: 255 - value).save(folder / "boot.png")
    (folder / "broken.png").write_text("no picture")
    with browser() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)

        best, done = page.get_by_test_id("label-output-value"), page.get_by_label("As the net sees it")
        page.locator("input[type=file]").first.set_input_files(folder / "boot.png")
        expect(best).to_have_text("Ankle boot")
        expect(done).to_have_value("28x28, inverted")
        page.wait_for_function("document.querySelector('#maps img')?.naturalWidth > 0")
        page.get_by_role("button", name="Remove Image").click()
        page.locator("input[type=file]").first.set_input_files(folder / "broken.png")
        expect(done).to_have_value(re.compile("^Not a picture that can be read: none of JPEG"))

        page.get_by_role("tab", name="A drawing").click()
        canvas = page.locator("canvas").first
        expect(canvas).to_be_visible()
        box = canvas.bounding_box()
        assert box is not None
        steps = re.compile(r"^336x336, trimmed to \d+x\d+, shrunk to \d+x\d+, inverted(, padded)?$")
        for _ in range(60):  # the canvas tells nobody when it is ready
            page.mouse.move(box["x"] + 180, box["y"] + 150)
            page.mouse.down()
            page.mouse.move(box["x"] + 300, box["y"] + 250, steps=3)
            page.mouse.up()
            page.wait_for_timeout(1000)
            if steps.match(done.input_value()):
                break
        expect(done).to_have_value(steps)
        assert {urlsplit(url).hostname for url in asked if url.startswith("http")} == {"127.0.0.1"}
