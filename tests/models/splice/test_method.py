"""What SpLiCE tells the registry about a package."""

import hashlib
from pathlib import Path

from conceptry.models.splice.method import _encoder_digest


def test_the_encoder_digest_covers_every_weight_file_and_nothing_else(tmp_path: Path) -> None:
    contents = {"image.onnx": b"image", "text.onnx": b"text"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    digests = sorted(hashlib.sha256(content).hexdigest() for content in contents.values())
    assert _encoder_digest(tmp_path) == hashlib.sha256("".join(digests).encode()).hexdigest()
    before = _encoder_digest(tmp_path)
    (tmp_path / "open_clip_config.json").write_text("{}")
    assert _encoder_digest(tmp_path) == before
    for name in contents:
        (tmp_path / name).write_bytes(b"other")
        assert _encoder_digest(tmp_path) != before
        (tmp_path / name).write_bytes(contents[name])
