"""What becomes of a picture file, beside what PIL makes of it step by step; and what of one that is none."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageOps
from torch import Tensor

from alexnet_lit.data.picture import Broken, decode, square
from tests.pictures import picture

SIZE = 32


def photo(width: int = 90, height: int = 60) -> Image.Image:
    """A picture with smooth parts and edges, not symmetric in any way."""
    image = Image.linear_gradient("L").resize((width, height))
    image = Image.merge("RGB", (image, image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), image.rotate(90)))
    ImageDraw.Draw(image).ellipse((width // 3, height // 5, width // 2, height // 2), fill=(200, 30, 90))
    return image


def decoded(path: Path, *, channels: int = 3, size: int = SIZE) -> Tensor:
    return torch.frombuffer(bytearray(square(path, size=size, channels=channels)), dtype=torch.uint8).view(
        channels, size, size
    )


def opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.load()
        return image


def reference(image: Image.Image, *, size: int = SIZE) -> Tensor:
    """Short side to `size`, then the centre: the two steps in turn."""
    scale = size / min(image.size)
    large = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - size) // 2 for side in large.size)
    out = large.crop((left, top, left + size, top + size))
    return torch.frombuffer(bytearray(out.tobytes()), dtype=torch.uint8).view(size, size, -1).permute(2, 0, 1)


def close(one: Tensor, other: Tensor, *, most: int, mean: float) -> None:
    assert one.shape == other.shape
    difference = (one.int() - other.int()).abs()
    assert difference.max() <= most
    assert difference.float().mean() <= mean


@pytest.mark.parametrize("shape", [(90, 60), (64, 96), (20, 20)], ids=str)
def test_the_centre_square_of_a_picture(shape: tuple[int, int], tmp_path: Path) -> None:
    image = photo(*shape)
    image.save(tmp_path / "a.png")
    # The steps in turn round the scale and the corner to whole px; where these are whole, nothing differs but rounding.
    exact = shape in [(20, 20), (64, 96)]
    close(decoded(tmp_path / "a.png"), reference(image), most=1 if exact else 40, mean=0.5 if exact else 3)


def test_a_large_jpeg_is_decoded_in_small_and_looks_the_same(tmp_path: Path) -> None:
    image = photo(1200, 800)
    image.save(tmp_path / "a.jpg", quality=95)
    full = reference(opened(tmp_path / "a.jpg"))
    close(decoded(tmp_path / "a.jpg"), full, most=30, mean=2)


def test_a_picture_stands_as_the_camera_was_held(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().save(tmp_path / "a.png", exif=exif)
    upright = ImageOps.exif_transpose(opened(tmp_path / "a.png"))
    close(decoded(tmp_path / "a.png"), reference(upright), most=40, mean=3)
    difference = decoded(tmp_path / "a.png").int() - reference(photo()).int()
    assert difference.abs().float().mean() > 8
    photo(1200, 800).save(tmp_path / "large.jpg", exif=exif)
    seen = decode(tmp_path / "large.jpg", channels=3, least=100, behind="white")
    assert (seen.width, seen.height, seen.image.size) == (800, 1200, (100, 150)), "as the file has it, and as decoded"
    photo(SIZE, SIZE).save(tmp_path / "a.jpg", exif=b"Exif\0\0nonsense", quality=95)  # can't be read, so it is none
    assert torch.equal(decoded(tmp_path / "a.jpg"), reference(opened(tmp_path / "a.jpg")))


def test_what_is_transparent_becomes_white(tmp_path: Path) -> None:
    hole = Image.new("RGBA", (SIZE, SIZE), (255, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (0, 0, SIZE // 2, SIZE))
    palette = hole.convert("RGB").quantize(4)
    palette.save(tmp_path / "palette.png", transparency=palette.getpixel((0, 0)))
    hole.convert("LA").save(tmp_path / "la.png")
    for name, rest in (("palette.png", [255, 0, 0]), ("la.png", [76, 76, 76])):
        image = decoded(tmp_path / name)
        assert image[:, 5, 5].tolist() == [255] * 3
        assert image[:, 5, -5].tolist() == rest
        black = decode(tmp_path / name, channels=3, least=SIZE, behind="black").image
        assert (black.getpixel((5, 5)), black.getpixel((SIZE - 5, 5))) == ((0, 0, 0), tuple(rest))


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    values = torch.arange(SIZE).mul(2000).expand(SIZE, SIZE).to(torch.uint16)
    for name in ("a.png", "a.tif"):
        Image.frombytes("I;16", (SIZE, SIZE), values.numpy().tobytes()).save(tmp_path / name)
        close(decoded(tmp_path / name, channels=1)[0], values.float().div(257).to(torch.uint8), most=1, mean=1)
    Image.new("I", (SIZE, SIZE), 70_000).save(tmp_path / "wide.tif")
    Image.new("F", (SIZE, SIZE), 0.5).save(tmp_path / "float.tif")
    for name in ("wide.tif", "float.tif"):
        with pytest.raises(Broken, match="neither 8 nor 16 bits a pixel"):
            decoded(tmp_path / name)


KINDS: dict[str, Callable[[Image.Image], tuple[Image.Image, str]]] = {
    "palette": lambda image: (image.quantize(64), "GIF"),
    "two colours": lambda image: (image.convert("1"), "PNG"),
    "cmyk": lambda image: (image.convert("CMYK"), "JPEG"),
    "tiff": lambda image: (image, "TIFF"),
    "bmp": lambda image: (image, "BMP"),
    "webp": lambda image: (image, "WEBP"),
    "ppm": lambda image: (image, "PPM"),
    "grey": lambda image: (image.convert("L"), "PNG"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_pixel_and_file(kind: str, tmp_path: Path) -> None:
    image, form = KINDS[kind](photo(SIZE, SIZE))
    frames = {"save_all": True, "append_images": [Image.new("RGB", (SIZE, SIZE))]} if form == "GIF" else {}
    image.save(tmp_path / "a.jpeg", form, **frames)  # whose name says something else
    expected = reference(opened(tmp_path / "a.jpeg").convert("RGB"))
    close(decoded(tmp_path / "a.jpeg"), expected, most=1, mean=0.5)


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims to have so many px."""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, "PNG")
    content = bytearray(file.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def file_of(form: str, image: Image.Image | None = None) -> bytes:
    file = io.BytesIO()
    (image or picture("bag", 0)).save(file, form)
    return file.getvalue()


BROKEN = {
    "empty": (b"", "none of JPEG"),
    "text": (b"<html>not found</html>", "none of JPEG"),
    "cut short": (file_of("JPEG")[:-200], "truncated"),
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


FORMS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
REAL = [file_of(form) for form in FORMS] + [file_of("PNG", picture("bag", 0).convert(mode)) for mode in ("P", "I;16")]


@settings(max_examples=40, deadline=None)
@given(st.data(), st.sampled_from(REAL))
def test_damaged_pictures(data: st.DataObject, content: bytes) -> None:
    """A picture, or one line that says why not; nothing else comes out."""
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(0, 8))):
        place = data.draw(st.integers(0, min(len(damaged), 700) - 1) | st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    end = data.draw(st.none() | st.integers(0, len(damaged)))
    with warnings.catch_warnings(action="ignore"):  # as decoding a folder does
        why = "none"
        try:
            assert len(square(io.BytesIO(damaged[:end]), size=SIZE, channels=3)) == 3 * SIZE * SIZE
        except Broken as broken:
            why = str(broken)
    assert 0 < len(why) <= 120
    assert "\n" not in why
