"""What becomes of a picture file, beside what PIL makes of it; of one that is none; and that each is decoded once."""

import io
import logging
import os
import struct
import zlib
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from alexnet_lit.data import image_folder
from alexnet_lit.data.image_folder import scan
from alexnet_lit.data.picture import Broken, decode, square
from alexnet_lit.errors import UserError
from tests.conftest import after_waiting
from tests.pictures import encoded, fill, picture

SIZE = 32


def photo(width: int = 90, height: int = 60) -> Image.Image:
    """A picture with smooth parts and edges, not symmetric in any way."""
    image = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", (image, image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), image.rotate(90)))
    ImageDraw.Draw(image).ellipse((width // 3, height // 5, width // 2, height // 2), fill=(200, 30, 90))
    return image


def pixels_of(path: Path, *, channels: int = 3) -> Tensor:
    pixels = bytearray(square(path, size=SIZE, channels=channels))
    return torch.frombuffer(pixels, dtype=torch.uint8).view(channels, SIZE, SIZE)


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def reference(image: Image.Image) -> Tensor:
    """Short side to `SIZE`, then the centre: the two steps in turn."""
    scale = SIZE / min(image.size)
    large = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - SIZE) // 2 for side in large.size)
    out = large.crop((left, top, left + SIZE, top + SIZE))
    return torch.frombuffer(bytearray(out.tobytes()), dtype=torch.uint8).view(SIZE, SIZE, -1).permute(2, 0, 1)


def close(one: Tensor, other: Tensor, *, most: int, mean: float) -> None:
    assert one.shape == other.shape
    difference = (one.int() - other.int()).abs()
    assert difference.max() <= most
    assert difference.float().mean() <= mean


@pytest.mark.parametrize(
    ("name", "shape", "most", "mean"),
    [
        # The steps in turn round the scale and the corner to whole px; where these are whole, no more than rounding.
        *(("a.png", (64, 96), 1, 0.5), ("a.png", (20, 20), 1, 0.5), ("a.png", (90, 60), 40, 3)),
        ("a.jpg", (1200, 800), 30, 2),  # pixels_of in small
    ],
)
def test_the_centre_square(name: str, shape: tuple[int, int], most: int, mean: float, tmp_path: Path) -> None:
    photo(*shape).save(tmp_path / name, quality=95)
    close(pixels_of(tmp_path / name), reference(opened(tmp_path / name)), most=most, mean=mean)


def test_a_picture_stands_as_the_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().save(tmp_path / "a.png", exif=exif)
    upright = ImageOps.exif_transpose(opened(tmp_path / "a.png"))
    close(pixels_of(tmp_path / "a.png"), reference(upright), most=40, mean=3)
    difference = pixels_of(tmp_path / "a.png").int() - reference(photo()).int()
    assert difference.abs().float().mean() > 8
    photo(1200, 800).save(tmp_path / "large.jpg", exif=exif)
    seen = decode(tmp_path / "large.jpg", channels=3, least=100)
    assert (seen.width, seen.height, seen.image.size) == (800, 1200, (100, 150)), "as the file has it, and as pixels_of"
    photo(SIZE, SIZE).save(tmp_path / "a.jpg", exif=b"Exif\0\0nonsense", quality=95)  # can't be read, so it is none
    assert torch.equal(pixels_of(tmp_path / "a.jpg"), reference(opened(tmp_path / "a.jpg")))


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    hole = Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (0, 0, SIZE // 2, SIZE))
    palette = hole.convert("RGB").quantize(4)
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    hole.convert("LA").save(tmp_path / "la.png")
    for name, rest in (("palette.png", [255, 0, 0]), ("la.png", [76, 76, 76])):
        image = pixels_of(tmp_path / name)
        assert image[:, 5, 5].tolist() == [255] * 3
        assert image[:, 5, -5].tolist() == rest


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = torch.arange(SIZE).mul(2000).expand(SIZE, SIZE).to(torch.uint16)
    for name in ("a.png", "a.tif"):
        Image.frombytes("I;16", (SIZE, SIZE), values.numpy().tobytes()).save(tmp_path / name)
        close(pixels_of(tmp_path / name, channels=1)[0], values.float().div(257).to(torch.uint8), most=1, mean=1)
    Image.new("I", (SIZE, SIZE), 70_000).save(tmp_path / "wide.tif")
    Image.new("F", (SIZE, SIZE), 0.5).save(tmp_path / "float.tif")
    for name in ("wide.tif", "float.tif"):
        with pytest.raises(Broken, match="neither 8 nor 16 bits a pixel"):
            pixels_of(tmp_path / name)


@pytest.mark.parametrize("kind", ["GIF P", "PNG 1", "PNG L", "JPEG CMYK", "TIFF RGB", "BMP RGB", "WEBP RGB", "PPM RGB"])
def test_any_kind_of_pixel_and_file(kind: str, tmp_path: Path) -> None:
    form, mode = kind.split()
    frames = {"save_all": True, "append_images": [Image.new("RGB", (SIZE, SIZE))]} if form == "GIF" else {}
    photo(SIZE, SIZE).convert(mode).save(tmp_path / "a.jpeg", form, **frames)  # whose name says something else
    expected = reference(opened(tmp_path / "a.jpeg").convert("RGB"))
    close(pixels_of(tmp_path / "a.jpeg"), expected, most=1, mean=0.5)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims to have so many px."""
    content = bytearray(encoded(Image.new("L", (1, 1))).getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


BROKEN = {
    "empty": (b"", "none of JPEG"),
    "text": (b"<html>not found</html>", "none of JPEG"),
    "cut short": (encoded(picture("bag", 0), "JPEG").getvalue()[:-200], "truncated"),
    "a bomb": (png_of(60_000, 60_000), "exceeds limit"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of JPEG"),
}


@pytest.mark.parametrize(("content", "why"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_picture_is_broken(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        with pytest.raises(Broken, match=why):
            square(source, size=SIZE, channels=3)
    with pytest.raises(Broken, match="No such file"):
        square(tmp_path / "none.jpg", size=SIZE, channels=3)


CACHED = 24


def images(root: Path, *, size: int = CACHED, channels: int = 3) -> tuple[list[str], Tensor, dict[str, str]]:
    """The names of the pictures, those that could be decoded, and why the others could not."""
    _, names = scan(root / "train")
    return names, *image_folder.decode_cached(root / "train", names, root / "cache", size=size, channels=channels)


def check(root: Path) -> Tensor:
    names, mapped, broken = images(root)
    assert not broken
    for name, image in zip(names, mapped, strict=True):
        assert image.flatten().tolist() == list(square(root / "train" / name, size=CACHED, channels=3)), name
    return mapped


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the pictures that are decoded."""
    seen: list[str] = []

    def watched(path: Path, *, size: int, channels: int) -> bytes:
        seen.append(path.name)
        return square(path, size=size, channels=channels)

    monkeypatch.setattr(image_folder, "square", watched)
    return seen


def test_each_picture_is_decoded_once(
    tmp_path: Path, decodings: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(image_folder, "_CHUNK", 6)
    monkeypatch.setattr(image_folder, "_LOG_EVERY_S", 0.0)
    with caplog.at_level(logging.INFO, "alexnet_lit"):
        check(fill(tmp_path))
    assert caplog.messages == [
        f"decoding train/ once, into {tmp_path / 'cache'}: takes 0.0 MB at most",
        *(f"decoded {count} of 12 pictures in train/" for count in (6, 12)),
    ]
    files = {path: path.stat() for path in (tmp_path / "cache").iterdir()}
    check(tmp_path)
    images(tmp_path, size=16, channels=1)
    check(tmp_path)
    assert len(decodings) == 24, "another size and colour lie beside it"
    assert files.items() <= {path: path.stat() for path in (tmp_path / "cache").iterdir()}.items()


def test_what_has_changed_is_decoded_anew(tmp_path: Path, decodings: list[str]) -> None:
    train = fill(tmp_path) / "train"
    mapped = check(tmp_path)
    before = mapped.clone()

    picture("shirt", 9).save(train / "bag" / "000.png")  # changed
    picture("bag", 9).save(train / "bag" / "000a.png")  # added, in the middle
    (train / "boot" / "002.png").unlink()  # removed
    names = ["a\nb.jpg", "\udcff.jpg", "'\"\\.jpg", "\u2028.jpg"]
    for number, name in enumerate(names):
        picture("boot", number).save(train / "boot" / "x.jpg")
        (train / "boot" / "x.jpg").rename(train / "boot" / name)
    check(tmp_path)
    assert torch.equal(mapped, before), "a run that reads the earlier file is not disturbed"
    assert len(list((tmp_path / "cache").glob("train*"))) == 2, "which is gone for all others"


def test_what_is_stopped_in_the_middle_counts_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(path: Path, *, size: int, channels: int) -> bytes:
        if path.match("boot/002.png"):
            raise KeyboardInterrupt
        return square(path, size=size, channels=channels)

    fill(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "_CHUNK", 3)
        patch.setattr(image_folder, "square", stopped)
        with pytest.raises(KeyboardInterrupt):
            images(tmp_path)
    (half,) = (tmp_path / "cache").glob("*.pixels")
    assert half.stat().st_size
    check(tmp_path)
    half.unlink()
    with pytest.raises(UserError, match=r"pixels: is not what was written: delete .*\.json"):
        images(tmp_path)


def test_of_two_that_wait_one_decodes(tmp_path: Path, decodings: list[str], caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, train=8)
    both = after_waiting(lambda: check(tmp_path), tmp_path / "cache", caplog)
    assert len(decodings) == 24
    assert torch.equal(*both)


@pytest.mark.linux
def test_a_cache_may_be_larger_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    side = 1 << 20  # a terabyte, of which the disk has no block

    def write(pictures: Path, names: list[str], pixels: Path, size: int, channels: int) -> dict[str, str]:
        pixels.touch()
        os.truncate(pixels, size**2)
        return {}

    monkeypatch.setattr(image_folder, "_write", write)
    mapped, _ = image_folder.decode_cached(tmp_path, ["bag/000.png"], tmp_path / "cache", size=side, channels=1)
    assert mapped.shape == (1, 1, side, side)
    assert mapped[0, 0, -1, -1] == 0


@pytest.mark.posix
def test_a_broken_picture_is_remembered_until_it_changes(tmp_path: Path, decodings: list[str]) -> None:
    train = fill(tmp_path, train=2) / "train"
    (train / "bag" / "000.png").write_bytes(b"")
    (train / "boot" / "gone.jpg").symlink_to(tmp_path / "picture.jpg")
    why = {"bag/000.png": "none of JPEG, PNG, GIF, BMP, PPM, TIFF, WEBP", "boot/gone.jpg": "No such file or directory"}
    for _ in range(2):
        _, mapped, broken = images(tmp_path)
        assert (len(mapped), broken) == (5, why)
    assert len(decodings) == 7
    picture("boot", 5).save(tmp_path / "picture.jpg")
    picture("bag", 5).save(train / "bag" / "000.png")
    check(tmp_path)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, train=1)
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    line = r"data\.cache=.*cache can't be written .*: make room, or name another folder"
    with pytest.raises(UserError, match=line):
        images(tmp_path)
    (tmp_path / "cache").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left on device")))
        with pytest.raises(UserError, match="No space left on device"):
            images(tmp_path)
    check(tmp_path)
