"""A picture file, decoded to the small square that a net is trained on."""

from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps, UnidentifiedImageError

# torchvision's IMG_EXTENSIONS has no GIF and no JFIF.
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
KINDS = ", ".join(suffix.removeprefix(".") for suffix in SUFFIXES)  # in words

# PIL's decoders that are allowed; the first bytes of a file choose, not its name. Otherwise PIL would try all that it
# knows, of which one starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
_WHITE_16_BIT = 65535


class Broken(ValueError):
    """A picture that can't be decoded; says why in a few words."""


class Decoded(NamedTuple):
    """A picture upright, opaque and in 8 bits; width and height as the file has them."""

    image: Image.Image
    width: int
    height: int


def square(source: Path | str | BytesIO, *, size: int, channels: int) -> bytes:
    """The bytes of uint8 (channels, size, size) of a picture's `centre`. Raises: Broken."""
    image, _ = centre(source, size=size, channels=channels)
    return b"".join(plane.tobytes() for plane in image.split())


def centre(source: Path | str | BytesIO, *, size: int, channels: int) -> tuple[Image.Image, Decoded]:
    """The square in the centre of a picture, `size` px a side, and the picture that it is cut from.

    Short side to `size`, then the centre (Krizhevsky et al. 2012, section 2), in one bilinear resize with antialiasing
    over the source. A large JPEG is decoded to no less than twice what is needed. Raises: Broken.
    """
    decoded = decode(source, channels=channels, least=2 * size)
    return ImageOps.fit(decoded.image, (size, size), Image.Resampling.BILINEAR), decoded


def decode(source: Path | str | BytesIO, *, channels: int, least: int) -> Decoded:
    """Read a picture from a file or from memory, in RGB (3 channels) or grey (1).

    It is turned as its EXIF orientation says, 16 bits become 8, and of several frames the first is taken.
    least: px of each side that will be needed; a large JPEG is decoded at 1/2, 1/4 or 1/8 if that leaves so many.
    What is transparent becomes white. Raises: Broken.
    """
    try:
        with Image.open(source, formats=_FORMATS) as image:
            width = image.width
            image.draft(None, (least, least))
            image.load()
            scale = width / image.width
            picture: Image.Image = image
            with suppress(Exception):  # damaged EXIF data raises whatever its decoder stumbles over
                picture = ImageOps.exif_transpose(image)
            picture = _opaque(picture, "RGB" if channels == 3 else "L")
            return Decoded(picture, *(round(side * scale) for side in picture.size))
    except Broken:
        raise
    except UnidentifiedImageError:
        raise Broken(f"none of {', '.join(_FORMATS)}") from None
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        why = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise Broken(" ".join(why.split())[:120]) from error


def _opaque(image: Image.Image, mode: str) -> Image.Image:
    """Convert any kind of pixel to 8 bits. Raises: Broken where nobody can tell which value is white."""
    if image.mode.startswith(("I", "F")):
        _, brightest = image.convert("F").getextrema()
        assert not isinstance(brightest, tuple)  # there is one channel
        if image.mode == "F" or brightest > _WHITE_16_BIT:
            raise Broken("neither 8 nor 16 bits a pixel")
        # PIL's own conversion would take everything above 255 for white.
        image = image.convert("I").point(lambda value: value * (255 / _WHITE_16_BIT) + 0.5).convert("L")
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert(mode)
