"""Pictures from untrusted bytes to RGB: formats by list, a pixel limit, every mode converted, one-sentence errors."""

import base64
import binascii
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageDraw, UnidentifiedImageError
from PIL.Image import Transpose

from conceptry.models.errors import InputError

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 50_000_000
_PNG = b"\x89PNG\r\n\x1a\n"
_XMP = b"XML:com.adobe.xmp\0\0"  # of a PNG, not compressed
_TURNS = {  # by the EXIF orientation: what brings the picture upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"II*\x00", b"MM\x00*")


def image_bytes(value: object) -> bytes:
    """The file content in a request cell: bytes as they are, or text in strict base64.

    Some JSON layouts of MLflow decode base64 and some do not, so bytes without a picture's magic number get one
    strict try as base64 before they are refused. Line breaks are overlooked: MLflow puts them into its answers.
    """
    if isinstance(value, str):
        raw = value.encode("ascii", errors="replace")
    elif isinstance(value, (bytes, bytearray, memoryview)):
        raw = bytes(value)
        if raw.startswith(_MAGIC):
            return raw
    else:
        raise InputError(
            f"expected the bytes of a picture or their base64 text, got {type(value).__name__}; "
            "in JSON use dataframe_split or dataframe_records"
        )
    try:
        decoded = base64.b64decode(b"".join(raw.split()), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if decoded.startswith(_MAGIC):
        return decoded
    raise InputError(f"not a picture: expected {', '.join(FORMATS)} bytes, or their base64 text")


def decode_image(data: bytes, max_pixels: int = MAX_PIXELS, upright: bool = True) -> Image.Image:
    """One RGB picture from the content of a file.

    Animations give their first frame; the EXIF orientation is applied, unless `upright` is false; CMYK, palette, grey
    and 16-bit pictures are converted (16 bits scaled to 8); transparency is laid over white. What a file says besides
    its pixels, such as its texts and its colour profile, is not read.

    Raises InputError where the bytes are no picture, are cut off, or claim more than `max_pixels` pixels, and for
    integers that 16 bits do not hold.
    """
    try:
        image = _opened(data)
        width, height = image.size
        if width * height > max_pixels:
            raise InputError(f"the picture has {width} x {height} pixels; at most {max_pixels:,} are accepted")
        image.seek(0)
        image.load()
        return to_rgb(image, upright)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"the picture has too many pixels; at most {max_pixels:,} are accepted") from None
    except UnidentifiedImageError:
        raise InputError(f"not a picture: expected one of {', '.join(FORMATS)}") from None
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many types on malformed files; all mean the same to a user
        raise InputError(f"the picture cannot be decoded: it is cut off or damaged ({type(error).__name__})") from None


def decode_mask(data: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Truth values (H, W) of the content of a mask's file.

    Grey levels above 127 are in; of a mask of the levels 0 and 1 only, as arrays of truth values are often saved, the
    ones. Raises InputError for levels of which none is above 127, for transparent pixels, and where the bytes are no
    image.
    """
    image = decode_image(data, max_pixels)
    with _opened(data) as file:
        if file.has_transparency_data and np.asarray(file.convert("RGBA"))[..., 3].min() < 255:
            raise InputError("has transparent pixels, which are neither in nor out; expected black and white")
    levels = np.asarray(image.convert("L"))
    highest = int(levels.max())
    if 1 < highest <= 127:
        raise InputError(f"its highest grey level is {highest}; expected levels above 127 where the unit is active")
    return levels > (127 if highest > 1 else 0)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(_without_texts(data)), formats=FORMATS)


def _without_texts(data: bytes) -> bytes:
    """A PNG without the texts and the profile in it, for Pillow reads them and refuses the picture where one is long.

    XMP stays, as Pillow finds it in a picture without EXIF: it may say how the picture is turned.
    """
    if not data.startswith(_PNG):
        return data
    parts, kept, start = [], 0, len(_PNG)  # data from `kept` to `start` stays
    while len(header := data[start : start + 8]) == 8:
        length, kind = struct.unpack(">I4s", header)
        end = start + 12 + length
        is_xmp = kind == b"iTXt" and length < 2**20 and data.startswith(_XMP, start + 8)
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP") and not is_xmp:
            parts.append(data[kept:start])
            kept = end
        start = end
    return b"".join([*parts, data[kept:]]) if parts else data


def open_image(path: Path) -> Image.Image:
    """`decode_image` of a file; errors name the file."""
    return read_image(path)[1]


def read_image(path: Path) -> tuple[bytes, Image.Image]:
    """Content of an image file, and its RGB image. Raises InputError naming the file where it is no image."""
    try:
        content = path.read_bytes()
        return content, decode_image(content)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder, expected a picture") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def is_image_file(text: str) -> bool:
    """Whether a string names an image file: it ends like one, or there is a file of that name (or a path to a folder).

    Raises InputError for what can only be the name of another file: without a space, with a slash or a suffix.
    """
    path = Path(text)
    if path.suffix.lower() in SUFFIXES or (text.strip() and _is_there(path, folders="/" in text)):
        return True
    if text and not any(map(str.isspace, text)) and (path.suffix[1:].isalnum() or "/" in text):
        raise InputError(f"{text}: no such file; to have it read as a text, put a space behind it")
    return False


def _is_there(path: Path, folders: bool) -> bool:
    try:
        return path.is_file() or (folders and path.is_dir())
    except (OSError, ValueError):  # a text may be longer than any name, or hold what no name may
        return False


def image_files(directory: Path) -> list[Path]:
    """The picture files below `directory`, sorted; every reader of a folder takes these.

    Hidden files and what lies in hidden folders is left out. Links to files and to folders are followed; one to a
    folder that it lies in leads to nothing new. Raises InputError where there are none, for a link to nothing, for a
    folder that cannot be listed, and for one whose name is no text: it may be that of a class.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: no such folder")
    found = sorted(_images_below(directory, frozenset({os.path.realpath(directory)})))
    if not found:
        raise InputError(f"{directory}: holds no pictures ({', '.join(SUFFIXES)})")
    return found


def _images_below(directory: Path, above: frozenset[str]) -> Iterator[Path]:
    """above: real paths of the folder and of those that it lies in."""
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        raise InputError(f"{os.fsencode(directory)!r}: the name of this folder is not UTF-8; rename it") from None
    try:
        entries = list(os.scandir(directory))
    except OSError as error:
        raise InputError(f"{directory}: cannot be listed: {error.strerror}") from None
    for entry in entries:
        if entry.name.startswith("."):
            continue
        path, is_link = directory / entry.name, entry.is_symlink()
        if path.is_dir() if is_link else entry.is_dir():
            if (real := os.path.realpath(path)) not in above:
                yield from _images_below(path, above | {real})
        elif is_link and not path.exists() and path.suffix.lower() in (*SUFFIXES, ""):  # of an image, or of a folder
            raise InputError(f"{path}: is a link to {os.readlink(path)}, which is not there; mend or remove it")
        elif path.suffix.lower() in SUFFIXES:
            yield path


def png_bytes(image: Image.Image) -> bytes:
    """The picture as a PNG file."""
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()


def example_image() -> str:
    """A red disc on blue, as base64 of a PNG: a request's example that needs no data set."""
    image = Image.new("RGB", (64, 64), (40, 90, 200))
    ImageDraw.Draw(image).ellipse((16, 16, 48, 48), fill=(220, 30, 40))
    return base64.b64encode(png_bytes(image)).decode()


def to_rgb(image: Image.Image, upright: bool = True) -> Image.Image:
    """RGB image of one in any mode, as `decode_image` describes it; turned by its EXIF orientation if `upright`."""
    turn = _turn_of(image) if upright else None
    image = image if turn is None else image.transpose(turn)
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N", "I", "F"):
        grey = _float_to_grey(image) if image.mode == "F" else _sixteen_bits_to_grey(image)
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _turn_of(image: Image.Image) -> Transpose | None:
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # EXIF that is malformed in any of many ways says nothing, and the picture is as good without
        return None


def _sixteen_bits_to_grey(image: Image.Image) -> np.ndarray:
    """round(v / 257), which takes 65535 to 255, in 16-bit integers; Pillow holds 16-bit grey in 16 or 32 bits."""
    values = np.asarray(image)
    if image.mode == "I" and not (values.min() >= 0 and values.max() <= 65535):
        # Without their extremes: Pillow holds unsigned integers from 2^31 on as negative ones.
        raise InputError("the picture has integers outside 0 to 65535 as pixels; scale them to 8 or 16 bits")
    values = np.clip(values, 0, 65535 - 128).astype(np.uint16, copy=False)  # what is clipped gives 255 too
    values += 128
    values //= 257
    return values.astype(np.uint8)


def _float_to_grey(image: Image.Image) -> np.ndarray:
    """Float pictures have no stated range: from their minimum to their maximum."""
    values = np.array(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite(high - low):
        raise InputError("the picture has NaN or infinite pixels; expected finite ones")
    values -= low
    values *= 255 / ((high - low) or 1.0)
    return np.rint(values, out=values).astype(np.uint8)
