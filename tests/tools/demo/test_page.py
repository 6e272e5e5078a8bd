"""The demo as a person sees it, in a real browser."""

import re
import socket
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from alexnet_lit.data.fashion_mnist import load_sample
from tests.browser import MARKS, browser, served

BOOT = load_sample().test.images[0]

pytestmark = [*MARKS, pytest.mark.skipif(find_spec("gradio") is None, reason="needs alexnet-lit[demo]")]


def draw(page: Page) -> None:
    """A filled shape, about as wide as it is high."""
    box = page.locator("canvas").first.bounding_box()
    assert box is not None
    left, top = box["x"] + 180, box["y"] + 150
    page.mouse.move(left, top)
    page.mouse.down()
    for line in range(12):
        page.mouse.move(left + 120 * (line % 2), top + 12 * line, steps=3)
    page.mouse.up()


def test_a_person_drops_and_draws_pictures(lenet: Path, tmp_path: Path) -> None:
    Image.fromarray(255 - BOOT.numpy()).save(tmp_path / "boot.png")
    (tmp_path / "broken.png").write_text("no picture")
    with served("-m", "alexnet_lit", "demo", str(lenet), scratch=tmp_path) as address, browser() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)

        best, done = page.get_by_test_id("label-output-value"), page.get_by_label("As the net sees it")
        page.locator("input[type=file]").first.set_input_files(tmp_path / "boot.png")
        expect(best).to_have_text("Ankle boot")
        expect(done).to_have_value("28x28, inverted")
        for name in ("seen", "maps"):
            page.wait_for_function(f"document.querySelector('#{name} img')?.naturalWidth > 0")
        page.screenshot(path=tmp_path / "dropped.png", full_page=True)

        page.get_by_role("button", name="Remove Image").click()
        expect(done).to_have_value("")
        page.locator("input[type=file]").first.set_input_files(tmp_path / "broken.png")
        expect(done).to_have_value(re.compile("^Not a picture that can be read: none of JPEG"))
        expect(best).to_have_count(0)

        page.get_by_role("tab", name="A drawing").click()
        for colour, inverted in (("white", ", inverted"), ("black", "")):
            page.get_by_label(colour).check()
            page.wait_for_timeout(2000)  # the canvas tells nobody when it is ready
            draw(page)
            expect(done).to_have_value(
                re.compile(rf"^336x336, trimmed to \d+x\d+, shrunk to \d+x\d+{inverted}(, padded)?$")
            )
            expect(best).to_have_count(1)
            page.screenshot(path=tmp_path / f"drawn_on_{colour}.png", full_page=True)
        assert {urlsplit(url).hostname for url in asked if url.startswith("http")} == {"127.0.0.1"}
        with pytest.raises(ConnectionRefusedError):  # where a server of all addresses would answer
            socket.create_connection(("127.0.0.2", urlsplit(address).port or 0), timeout=5).close()
