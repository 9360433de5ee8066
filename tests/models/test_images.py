"""Pictures from bytes: every mode converted, every kind of bad bytes refused in one sentence."""

import base64
import contextlib
import io
import os
import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from conceptry.models.errors import InputError
from conceptry.models.images import (
    MAX_PIXELS,
    decode_image,
    decode_mask,
    image_bytes,
    image_files,
    open_image,
    png_bytes,
)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format, **options)
    return stream.getvalue()


def noise(side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("1", "PNG"),
        ("L", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("I;16", "PNG"),
        ("CMYK", "JPEG"),
        ("YCbCr", "JPEG"),
        ("LAB", "TIFF"),
        ("F", "TIFF"),
        ("I", "TIFF"),
        ("P", "GIF"),
        ("RGB", "WEBP"),
        ("RGB", "BMP"),
    ],
)
def test_every_mode_becomes_rgb(mode: str, format: str) -> None:
    image = decode_image(encoded(Image.new(mode, (20, 10)), format))
    assert (image.mode, image.size) == ("RGB", (20, 10))


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.array([[0, 65535 // 2, 65535]], dtype=np.uint16)
    assert np.asarray(decode_image(encoded(Image.fromarray(values))))[0, :, 0].tolist() == [0, 127, 255]


@pytest.mark.parametrize(("dtype", "format"), [("<u2", "PNG"), (">u2", "TIFF"), ("<i4", "TIFF")])
def test_every_sixteen_bit_value_is_rounded_to_the_nearest(dtype: str, format: str) -> None:
    values = np.arange(65536).astype(dtype).reshape(256, 256)
    if dtype == ">u2":
        content = encoded(Image.frombytes("I;16B", (256, 256), values.tobytes()), format)
    else:
        content = encoded(Image.fromarray(values), format)
    expected = np.rint(np.arange(65536) / 257).astype(np.uint8).reshape(256, 256)
    assert np.array_equal(np.asarray(decode_image(content))[..., 0], expected)


@pytest.mark.parametrize("values", [[-5, 0], [0, 65536], [0, 2**31 - 1]])
def test_integers_outside_sixteen_bits_are_refused(values: list[int]) -> None:
    content = encoded(Image.fromarray(np.array([values], dtype=np.int32)), "TIFF")
    with pytest.raises(InputError, match="integers outside 0 to 65535 as pixels; scale them to 8 or 16 bits"):
        decode_image(content)


def test_unsigned_integers_of_thirty_two_bits_are_no_negative_ones() -> None:
    """Pillow writes none: a TIFF of one row by hand."""
    pixels = (np.arange(256, dtype="<u4") * 2**24).tobytes()
    fields = {256: 256, 257: 1, 258: 32, 259: 1, 262: 1, 273: 8 + 2 + 12 * 9 + 4, 277: 1, 278: 1, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in fields.items())
    content = b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4) + pixels
    with pytest.raises(InputError, match="integers outside 0 to 65535"):
        decode_image(content)


def test_sixteen_bit_pictures_take_no_wide_temporaries() -> None:
    content = encoded(Image.new("I;16", (1000, 1000), 40000))
    tracemalloc.start()
    decode_image(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # bytes of NumPy arrays: 2 + 2 + 1 a pixel, and what Pillow copies


def test_float_pictures_are_scaled_from_minimum_to_maximum() -> None:
    content = encoded(Image.fromarray(np.array([[-3e38, 0, 3e38]], dtype=np.float32)), "TIFF")
    assert np.asarray(decode_image(content))[0, :, 0].tolist() == [0, 128, 255]
    for value in (np.nan, np.inf):
        content = encoded(Image.fromarray(np.array([[0, value, 1]], dtype=np.float32)), "TIFF")
        with pytest.raises(InputError, match="the picture has NaN or infinite pixels"):
            decode_image(content)


def test_transparency_is_laid_over_white() -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (255, 0, 0, 255))
    decoded = decode_image(encoded(image))
    assert [decoded.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (255, 0, 0)]


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    decoded = decode_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert decoded.getpixel((0, 0)) == (255, 0, 0)


def test_the_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    content = encoded(Image.new("RGB", (20, 10)), "JPEG", exif=exif)
    assert decode_image(content).size == (10, 20)
    assert decode_image(content, upright=False).size == (20, 10)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(*chunks: bytes, at_end: bool = False, colour: tuple[int, int, int] = (200, 30, 40)) -> bytes:
    """The PNG of a picture 20 x 10 of one colour with more chunks: behind its header, or before its end."""
    png = encoded(Image.new("RGB", (20, 10), colour))
    place = len(png) - 12 if at_end else 33
    return png[:place] + b"".join(chunks) + png[place:]


LONG = zlib.compress(b"x" * 2_000_000)  # Pillow reads texts up to 1 MB


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize(
    "long",
    [
        chunk(b"zTXt", b"Comment\0\0" + LONG),
        chunk(b"iTXt", b"Comment\0\1\0\0\0" + LONG),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
        chunk(b"iCCP", b"profile\0\0" + LONG),
        chunk(b"tEXt", b"Comment\0" + b"x" * 2_000_000),
    ],
)
def test_long_texts_and_profiles_of_a_png_are_not_read(long: bytes, at_end: bool) -> None:
    image = decode_image(with_chunks(long, at_end=at_end))
    assert (image.size, image.getpixel((0, 0))) == ((20, 10), (200, 30, 40))
    assert decode_mask(with_chunks(long, at_end=at_end, colour=(255, 255, 255))).all()


def test_xmp_still_turns_a_png() -> None:
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta tiff:Orientation="6"/>'
    assert decode_image(with_chunks(chunk(b"iTXt", xmp))).size == (10, 20)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's
@pytest.mark.parametrize(
    "exif", [b"\x00\x08\x00\x02\x01\x12\x00\x03" + bytes(8), b"", b"Exif\0\0", b"II*\0\xff\xff\xff\xff"]
)
def test_malformed_exif_turns_nothing(exif: bytes) -> None:
    assert decode_image(with_chunks(chunk(b"eXIf", exif))).getpixel((0, 0)) == (200, 30, 40)
    jpeg = encoded(Image.new("RGB", (20, 10), (200, 30, 40)), "JPEG")
    app1 = b"Exif\0\0" + exif
    content = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(app1) + 2) + app1 + jpeg[2:]
    assert decode_image(content).size == (20, 10)


def test_every_orientation_is_applied_as_pillow_does() -> None:
    image = noise(8).crop((0, 0, 8, 5))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        content = encoded(image, exif=exif)
        expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        assert png_bytes(decode_image(content)) == png_bytes(expected), orientation


def test_base64_text_and_base64_bytes_are_decoded_strictly(picture: Image.Image) -> None:
    content = png_bytes(picture)
    text = base64.b64encode(content)
    assert image_bytes(content) == image_bytes(text) == image_bytes(text.decode()) == content
    assert image_bytes(base64.encodebytes(content).decode()) == content  # in lines, as MLflow's server answers
    for value in (b"", "!!!???", b"hello", base64.b64encode(b"hello").decode(), text.decode()[:-3] + "*"):
        with pytest.raises(InputError, match="not a picture: expected PNG, JPEG"):
            image_bytes(value)
    with pytest.raises(InputError, match="base64 text, got int"):
        image_bytes(5)


def test_a_truncated_picture_is_refused() -> None:
    content = encoded(noise(64))
    with pytest.raises(InputError, match="cut off or damaged"):
        decode_image(content[: len(content) // 2])


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly a pixel."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100))


@pytest.mark.parametrize("side", [8000, 9500, 12000, 30000])
def test_decompression_bombs_are_refused_unopened(side: int) -> None:
    assert side * side > MAX_PIXELS
    with pytest.raises(InputError, match="pixels; at most 50,000,000 are accepted"):
        decode_image(bomb(side, side))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_pictures_give_a_picture_or_an_input_error(data: st.DataObject) -> None:
    content = bytearray(encoded(noise(16), data.draw(st.sampled_from(["PNG", "JPEG", "GIF"]))))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        assert decode_image(bytes(content)).mode == "RGB"


def test_files_are_named_in_errors(tmp_path, picture: Image.Image) -> None:
    (tmp_path / "a.png").write_bytes(png_bytes(picture))
    (tmp_path / "b.png").write_bytes(b"nothing")
    assert open_image(tmp_path / "a.png").size == (64, 64)
    with pytest.raises(InputError, match=r"b\.png: not a picture"):
        open_image(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"c\.png: no such file"):
        open_image(tmp_path / "c.png")
    assert [file.name for file in image_files(tmp_path)] == ["a.png", "b.png"]
    with pytest.raises(InputError, match="holds no pictures"):
        image_files(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty")


def placed(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name)


def found_below(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in image_files(root)]


def test_a_folder_is_walked_once_for_all(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / ".data" / "images", tmp_path / "elsewhere"
    placed(
        root,
        "cat/1.png",
        "page.jpg/b.png",
        ".thumbnails/1.png",
        "cat/.ipynb_checkpoints/1-checkpoint.png",
        "cat/._1.png",
    )
    placed(elsewhere, "2.png", "deep/3.PNG", ".hidden/4.png")
    (root / "dog").symlink_to(elsewhere, target_is_directory=True)
    (root / "cat" / "5.png").symlink_to(elsewhere / "2.png")
    (root / "cat" / "again").symlink_to(root, target_is_directory=True)  # without end, were it followed
    (root / "notes.txt").symlink_to(tmp_path / "gone")
    assert found_below(root) == ["cat/1.png", "cat/5.png", "dog/2.png", "dog/deep/3.PNG", "page.jpg/b.png"]


@pytest.mark.parametrize("name", ["a.png", "class"])
def test_a_link_to_nothing_is_named(tmp_path: Path, name: str) -> None:
    placed(tmp_path, "cat/1.png")
    (tmp_path / name).symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=rf"{name}: is a link to .*gone, which is not there; mend or remove it"):
        image_files(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to(tmp_path / name)
    with pytest.raises(InputError, match=f"{name}: is a link to"):
        image_files(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names")
def test_names_that_are_no_text(tmp_path: Path) -> None:
    placed(tmp_path, "a.png", "b.png")
    os.rename(tmp_path / "a.png", os.fsencode(tmp_path) + b"/caf\xe9.png")
    assert [os.fsencode(path.name) for path in image_files(tmp_path)] == [b"b.png", b"caf\xe9.png"]
    os.mkdir(os.fsencode(tmp_path) + b"/th\xe9")
    with pytest.raises(InputError, match=r"th\\xe9': the name of this folder is not UTF-8; rename it"):
        image_files(tmp_path)


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed(tmp_path, "cat/1.png", "dog/1.png")
    listed = os.scandir

    def scandir(path):  # root is refused nothing
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match="dog: cannot be listed: Permission denied"):
        image_files(tmp_path)
