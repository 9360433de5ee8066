"""Pictures from bytes: every mode converted, every kind of bad bytes refused in one sentence."""

import base64
import contextlib
import io
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conceptry.models.errors import InputError
from conceptry.models.images import MAX_PIXELS, decode_image, image_bytes, image_files, open_image, png_bytes


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


def test_thirty_two_bit_values_outside_sixteen_bits_are_clipped() -> None:
    content = encoded(Image.fromarray(np.array([[-5, 0, 65535, 2**31 - 1]], dtype=np.int32)), "TIFF")
    assert np.asarray(decode_image(content))[0, :, 0].tolist() == [0, 0, 255, 255]


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

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + checksum

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
