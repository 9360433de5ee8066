"""Files of an installed package, by their digests."""

from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from conceptry.models.encoders import token_vectors
from conceptry.models.errors import InputError, IntegrityError
from conceptry.models.manifest import sha256_file


def test_only_the_pinned_files_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "vectors"
    file.write_text("1 2 3")
    installed = SimpleNamespace(version="0.3", locate_file=lambda name: tmp_path / name)
    monkeypatch.setattr(token_vectors.metadata, "distribution", lambda package: installed)
    digest = sha256_file(file)
    assert token_vectors.package_file("wordllama", "vectors", digest, "zoo:photos") == file
    with pytest.raises(InputError, match=r"^zoo:photos needs wordllama 0\.4\.0\.post1, and 0\.3 is installed: pip"):
        token_vectors.package_file("wordllama", "vectors", "0" * 64, "zoo:photos")
    installed.version = token_vectors.VERSION
    with pytest.raises(IntegrityError, match=r"expected SHA-256 0{64}; install wordllama 0\.4\.0\.post1 again"):
        token_vectors.package_file("wordllama", "vectors", "0" * 64, "zoo:photos")


def test_a_package_that_is_not_there_is_named() -> None:
    sentence = r"^zoo:photos needs the package no-such-thing, .*: pip install 'conceptry\[photos\]'$"
    with pytest.raises(InputError, match=sentence):
        token_vectors.package_file("no-such-thing", "vectors", "0" * 64, "zoo:photos")


@pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra photos is not installed")
def test_a_text_has_a_length_that_memory_bears() -> None:
    tokenizer = token_vectors.read_wordllama("zoo:photos").tokenizer
    assert tokenizer(["a dog", "a dog on the beach"]).shape[0] == 2
    with pytest.raises(InputError, match=r"a text of 12,000 characters has [\d,]+ tokens; at most 1,000 are read"):
        tokenizer(["a dog", "a dog " * 2000])
