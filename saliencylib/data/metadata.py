"""Picture files whose metadata are damaged or odd: their pixels are read all the same."""

import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from PIL import Image

T = TypeVar("T")
PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8"
FILL, SCAN, EXIF, ADOBE = 0xFF, 0xDA, 0xE1, 0xEE  # bytes that stand before and for a JPEG's segments
METADATA = {*range(0xE0, 0xF0), 0xFE}  # the segments of applications, and comments
ADOBE_BYTES = 16  # of a whole segment of Adobe's


def read_picture(path: Path, read: Callable[[Image.Image], T]) -> T:
    """``read(image)`` of a file opened with Pillow; where that fails, of the file without its metadata.

    Raises what Pillow and ``read`` raise where the pixels cannot be read either.
    """
    try:
        with Image.open(path) as image:
            return read(image)
    except (OSError, SyntaxError, ValueError) as error:
        bare = without_metadata(path.read_bytes())
        try:
            with Image.open(io.BytesIO(bare)) as image:
                return read(image)
        except (OSError, SyntaxError, ValueError):
            raise error from None


def without_metadata(content: bytes) -> bytes:
    """A PNG or JPEG file with its pixels and EXIF data alone; another file as it is.

    Of a PNG the critical chunks and transparency are kept, and EXIF data whose checksum is right (PNG
    specification, sections 5 and 11); of a JPEG all segments but those of applications and comments (ITU-T
    T.81, annex B), and of these EXIF data and Adobe's, by which colours are decoded.
    """
    if content.startswith(PNG):
        return PNG + b"".join(_png_chunks(content))
    if content.startswith(JPEG):
        return JPEG + b"".join(_jpeg_segments(content))
    return content


def _png_chunks(content: bytes) -> Iterator[bytes]:
    place = len(PNG)
    while chunk := content[place : place + 12 + int.from_bytes(content[place : place + 4], "big")]:
        kind, whole = chunk[4:8], zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]
        if kind[:1].isupper() or kind == b"tRNS" or (kind == b"eXIf" and whole):
            yield chunk
        place += len(chunk)


def _jpeg_segments(content: bytes) -> Iterator[bytes]:
    place = len(JPEG)
    while place + 1 < len(content) and content[place] == FILL and (marker := content[place + 1]) != SCAN:
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == FILL:
            end = place + 1
        elif marker not in METADATA or marker == EXIF or (marker == ADOBE and end - place >= ADOBE_BYTES):
            yield content[place:end]
        place = end
    yield content[place:]
