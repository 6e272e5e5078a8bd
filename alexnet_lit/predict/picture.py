"""One picture, whatever its file holds, as the small image that a net was trained on, and what was done to it."""

import os
import stat
from io import BytesIO
from statistics import median
from typing import NamedTuple

from PIL import Image, ImageOps, ImageStat, UnidentifiedImageError

BACKGROUNDS = ("auto", "white", "black")

# Who may read a file; its first bytes choose, not its name. Left to itself PIL tries everything that it knows, and for
# one format it starts Ghostscript.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
_WHITE_16_BIT = 65535
_CLOSE = 0.05 * 255  # to the background: "within 5% of the maximum possible intensity" (Xiao et al. 2017, section 2)
_CORNER = 28  # a corner is this part of a side


class Unreadable(ValueError):
    """A picture that can't be decoded; says why in a few words."""


class Picture(NamedTuple):
    """A picture as the net is to see it, "L" or "RGB", and what was done to it, in words."""

    image: Image.Image
    done: str


class Decoded(NamedTuple):
    """A picture as a person sees it: upright, opaque, 8 bits; width and height as the file has them."""

    image: Image.Image
    width: int
    height: int

    def typed(self, width: float, height: float) -> str:
        """A size in px of `image` as one of the picture in the file."""
        scale = self.width / self.image.width
        return f"{round(width * scale)}x{round(height * scale)}"


def clothes(decoded: Decoded, *, size: int, background: str) -> Picture:
    """A grey picture as those of Fashion-MNIST were made: light on black, the longest edge `size` px, in the middle.

    Trims edges that are close to the background, shrinks the longest edge to `size`, negates what has a white
    background, and extends the shortest edge by the background (Xiao et al. 2017, section 2). A picture that is
    `size` x `size` already is at most negated. Two departures: edges are shrunk by the mean over the area of each pixel
    instead of by leaving out rows and columns, and nothing is sharpened after it.

    background: "white" is negated, "black" is not, "auto" takes it from the corners, light or dark.
    """
    image, done = decoded.image, []
    level = _corners(image)
    if image.size != (size, size):
        box = image.point([255 * (abs(value - level) > _CLOSE) for value in range(256)]).getbbox()
        if box is not None and box != (0, 0, *image.size):
            image = image.crop(box)
            done.append(f"trimmed to {decoded.typed(*image.size)}")
        longest = max(image.size)
        width, height = (max(1, round(side * size / longest)) for side in image.size)
        if longest != size:
            image = image.resize((width, height), Image.Resampling.BOX if longest > size else Image.Resampling.BILINEAR)
            done.append(f"{'shrunk' if longest > size else 'enlarged'} to {width}x{height}")
    if background == "white" or (background == "auto" and level > 127):
        image, level = ImageOps.invert(image), 255 - level
        done.append("inverted")
    if image.size != (size, size):
        canvas = Image.new("L", (size, size), round(level))
        canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        image = canvas
        done.append("padded")
    return _told(decoded, image, done)


def square(decoded: Decoded, *, size: int) -> Picture:
    """A picture as it is: short side to `size` px, then the centre (Krizhevsky et al. 2012, section 2)."""
    image, done = decoded.image, []
    if image.width != image.height:
        done.append(f"centre {decoded.typed(*[min(image.size)] * 2)}")
    if image.size != (size, size):
        done.append(f"{'shrunk' if min(image.size) > size else 'enlarged'} to {size}x{size}")
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return _told(decoded, image, done)


def decode(source: str | BytesIO, *, mode: str, least: int, behind: str) -> Decoded:
    """Read a picture from a file or from memory, as "L" (grey) or "RGB".

    What the camera noted about its orientation is followed, 16 bits become 8, and of several frames the first is taken.
    least: px of each side that will be needed; a large JPEG is decoded at 1/2, 1/4 or 1/8 if that leaves so many.
    behind: the colour behind what is transparent. Raises: Unreadable.
    """
    try:
        if isinstance(source, str) and not stat.S_ISREG(os.stat(source).st_mode):
            raise Unreadable("no regular file")  # asked before opening: a named pipe would wait for ever
        with Image.open(source, formats=_FORMATS) as image:
            width = image.width
            image.draft(None, (least, least))
            image.load()
            scale = width / image.width
            upright = _opaque(_upright(image), mode, behind)
            return Decoded(upright, *(round(side * scale) for side in upright.size))
    except UnidentifiedImageError:
        raise Unreadable(f"none of {', '.join(_FORMATS)}") from None
    except Unreadable:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        why = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise Unreadable(" ".join(why.split())[:120]) from error


def _upright(image: Image.Image) -> Image.Image:
    """Turn it as the camera was held. A note about that which can't be read is none."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # as above
        return image


def _opaque(image: Image.Image, mode: str, behind: str) -> Image.Image:
    """Convert any kind of pixel to 8 bits. Raises: Unreadable where nobody can tell which value is white."""
    if image.mode.startswith("I"):
        image = image.convert("I")
        _, brightest = image.getextrema()
        if isinstance(brightest, tuple) or brightest > _WHITE_16_BIT:
            raise Unreadable("more than 16 bits a pixel")
        # PIL's own conversion would take everything above 255 for white.
        image = image.point(lambda value: value * (255 / _WHITE_16_BIT) + 0.5).convert("L")
    elif image.mode == "F":
        raise Unreadable("pixels that are no whole numbers")
    elif image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, behind), image.convert("RGBA"))
    return image.convert(mode)


def _corners(image: Image.Image) -> float:
    """The background of a grey picture, 0..255: the middle of its four corners, of which an item may cover one."""
    width, height = (max(1, side // _CORNER) for side in image.size)
    corners = [(left, top) for left in (0, image.width - width) for top in (0, image.height - height)]
    boxes = [(left, top, left + width, top + height) for left, top in corners]
    return median(ImageStat.Stat(image.crop(box)).mean[0] for box in boxes)


def _told(decoded: Decoded, image: Image.Image, done: list[str]) -> Picture:
    return Picture(image, f"{decoded.width}x{decoded.height}, {', '.join(done or ['as it is'])}")
