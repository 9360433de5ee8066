"""Images in the records that plots are drawn from: base64 text, file content, or an image as it is."""

import base64

from PIL import Image

from conceptry.models.images import decode_image, image_bytes


def image_of(value: str | bytes | Image.Image) -> Image.Image:
    """RGB image of one cell of a record. Raises InputError where it is no image."""
    return value.convert("RGB") if isinstance(value, Image.Image) else decode_image(image_bytes(value))


def image_text(content: str | bytes) -> str:
    """Content of an image file as base64 text, the form in which records can be written as JSON."""
    return content if isinstance(content, str) else base64.b64encode(content).decode()
