"""One picture file as the small square that a net is trained on, whatever the file holds."""

import os
import stat
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

# Who may read a file; its first bytes choose, not its name. Left to itself PIL tries everything that it knows, and for
# one format it starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP")
_WHITE_16_BIT = 65535


class Broken(ValueError):
    """A picture that can't be decoded; says why in a few words."""


def square(path: Path, *, size: int, channels: int) -> bytes:
    """Decode a picture to its centre square, `size` px: the bytes of uint8 (channels, size, size), 3 is RGB, 1 grey.

    Short side to `size`, then the centre (Krizhevsky et al. 2012, section 2), in one bilinear resize with antialiasing
    over the source. A large JPEG is decoded at 1/2, 1/4 or 1/8, to no less than twice what is needed. What the camera
    noted about its orientation is followed, what is transparent becomes white, 16 bits become 8, and of several frames
    the first is taken.
    Raises: Broken.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # asked before opening: a named pipe would wait for ever
            raise Broken("no regular file")
        with Image.open(path, formats=_FORMATS) as image:
            image.draft(None, (2 * size, 2 * size))
            image.load()
            picture = _colours(_upright(image), "RGB" if channels == 3 else "L")
            small = ImageOps.fit(picture, (size, size), Image.Resampling.BILINEAR)
            return b"".join(plane.tobytes() for plane in small.split())
    except Broken:
        raise
    except UnidentifiedImageError:
        empty = os.stat(path).st_size == 0
        raise Broken("empty" if empty else f"none of {', '.join(_FORMATS)}") from None
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        why = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise Broken(" ".join(why.split())[:120]) from error


def _upright(image: Image.Image) -> Image.Image:
    """Turn it as the camera was held. A note about that which can't be read is none."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as above
        return image


def _colours(image: Image.Image, mode: str) -> Image.Image:
    """Convert any kind of pixel to 8 bits, opaque. Raises: Broken where nobody can tell which value is white."""
    if image.mode.startswith("I"):
        image = image.convert("I")
        _, brightest = image.getextrema()
        assert not isinstance(brightest, tuple)  # there is one channel
        if brightest > _WHITE_16_BIT:
            raise Broken("more than 16 bits a pixel")
        # PIL's own conversion would take everything above 255 for white.
        image = image.point(lambda value: value * (255 / _WHITE_16_BIT) + 0.5).convert("L")
    elif image.mode == "F":
        raise Broken("pixels that are no whole numbers")
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert(mode)
