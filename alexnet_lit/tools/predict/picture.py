"""One picture as the small image that a net was trained on, and what was done to it."""

from io import BytesIO
from statistics import median
from typing import NamedTuple

from PIL import Image, ImageOps, ImageStat

from alexnet_lit.data.picture import Decoded, centre, decode

BACKGROUNDS = ("auto", "white", "black")

_CLOSE = 0.05 * 255  # to the background: "within 5% of the maximum possible intensity" (Xiao et al. 2017, section 2)
_CORNER = 28  # a corner is this part of a side


class Picture(NamedTuple):
    """A picture as the net is to see it, "L" or "RGB", and what was done to it, in words."""

    image: Image.Image
    done: str


def clothes(source: str | BytesIO, *, size: int, background: str) -> Picture:
    """A grey picture as those of Fashion-MNIST were made: light on black, the longest edge `size` px, in the middle.

    Trims edges that are close to the background, shrinks the longest edge to `size`, negates what has a white
    background, and extends the shortest edge by the background (Xiao et al. 2017, section 2). A picture that is
    `size` x `size` already is at most negated. Two departures: edges are shrunk by the mean over the area of each pixel
    instead of by leaving out rows and columns, and nothing is sharpened after it.

    background: "white" is negated, "black" is not, "auto" takes it from the corners, light or dark. Raises: Broken.
    """
    behind = "black" if background == "black" else "white"
    decoded = decode(source, channels=1, least=16 * size, behind=behind)  # of which trimming leaves a part
    image, done = decoded.image, list[str]()
    level = _corners(image)
    if image.size != (size, size):
        box = image.point([255 * (abs(value - level) > _CLOSE) for value in range(256)]).getbbox()
        if box is not None and box != (0, 0, *image.size):
            image = image.crop(box)
            done.append(f"trimmed to {_in_file(decoded, *image.size)}")
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


def square(source: str | BytesIO, *, size: int, channels: int) -> Picture:
    """A picture as `ImageFolder` keeps it, the very same pixels: the square in its centre. Raises: Broken."""
    image, decoded = centre(source, size=size, channels=channels)
    side, done = min(decoded.image.size), list[str]()
    if decoded.width != decoded.height:
        done.append(f"centre {_in_file(decoded, side, side)}")
    if side != size:
        done.append(f"{'shrunk' if side > size else 'enlarged'} to {size}x{size}")
    return _told(decoded, image, done)


def _corners(image: Image.Image) -> float:
    """The background of a grey picture, 0..255: the middle of its four corners, of which an item may cover one."""
    width, height = (max(1, side // _CORNER) for side in image.size)
    corners = [(left, top) for left in (0, image.width - width) for top in (0, image.height - height)]
    boxes = [(left, top, left + width, top + height) for left, top in corners]
    return median(ImageStat.Stat(image.crop(box)).mean[0] for box in boxes)


def _in_file(decoded: Decoded, width: int, height: int) -> str:
    """A size in px of what was decoded as one of the picture in the file, which may be larger."""
    scale = decoded.width / decoded.image.width
    return f"{round(width * scale)}x{round(height * scale)}"


def _told(decoded: Decoded, image: Image.Image, done: list[str]) -> Picture:
    return Picture(image, f"{decoded.width}x{decoded.height}, {', '.join(done or ['as it is'])}")
