"""Vocabularies by name and by path, and downloads that keep nothing unverified."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from conceptry.models import splice
from conceptry.models.downloads import RemoteFile, fetch
from conceptry.models.errors import ConceptryError, InputError, IntegrityError
from conceptry.models.shipped import weights_directory
from conceptry.models.splice import load_vocabulary, vocabulary
from conceptry.models.splice.dictionary import PUBLISHED_MEANS
from conceptry.models.splice.vocabulary import VocabularyWarning


def test_blank_and_repeated_lines_are_dropped_with_one_warning(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("\ufeffdog\n\n cat \ndog\n\nbird\n", encoding="utf-8")
    with pytest.warns(VocabularyWarning) as caught:
        words = load_vocabulary(path)
    assert words == ["dog", "cat", "bird"]
    assert [str(w.message) for w in caught] == ["words.txt: dropped 2 blank and 1 repeated lines, the first at line 2"]


def test_size_keeps_the_last_words(words_file: Path) -> None:
    assert load_vocabulary(str(words_file), 3) == ["lamp", "phone", "book"]
    for size in (0, -1, 20, True):
        with pytest.raises(InputError, match="vocabulary_size must be from 1 to 19"):
            load_vocabulary(words_file, size)


def test_the_emoji_vocabulary_ships() -> None:
    words = load_vocabulary("emoji")
    assert len(words) == len(set(words)) > 100
    assert {"red", "striped", "dog"} <= set(words)


def test_unknown_names_and_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'laoin' is neither a file nor one of emoji, photos, laion"):
        load_vocabulary("laoin")
    (tmp_path / "empty.txt").write_text("\n\n")
    with pytest.raises(InputError, match="holds no words"):
        load_vocabulary(tmp_path / "empty.txt")
    (tmp_path / "binary.txt").write_bytes(b"dog\n\xff\xfe\n")
    with pytest.raises(InputError, match=r"binary\.txt: expected UTF-8 text, byte 4 is not"):
        load_vocabulary(tmp_path / "binary.txt")
    (tmp_path / "marked.txt").write_bytes("\ufeffdog\r\ncat\r\n".encode())
    assert load_vocabulary(tmp_path / "marked.txt", np.int64(1)) == ["cat"]
    assert load_vocabulary(tmp_path / "marked.txt") == ["dog", "cat"]


@pytest.fixture
def server(tmp_path: Path):
    """A web server over `tmp_path/served`, and its address."""
    (tmp_path / "served").mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served")) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_named_vocabulary_is_fetched_checked_and_cached(server, tmp_path, monkeypatch) -> None:
    content = b"the\ndog\n"
    (tmp_path / "served" / "laion.txt").write_bytes(content)
    remote = RemoteFile(f"{server}/laion.txt", hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(vocabulary.PUBLISHED, "laion", remote)
    monkeypatch.setenv("CONCEPTRY_CACHE", str(tmp_path / "cache"))
    assert load_vocabulary("laion") == ["the", "dog"]
    (tmp_path / "served" / "laion.txt").unlink()
    assert load_vocabulary("laion", 1) == ["dog"]  # from the cache
    (cached,) = (tmp_path / "cache").iterdir()
    cached.write_bytes(b"tampered")
    with pytest.raises(ConceptryError, match="cannot be downloaded"):
        load_vocabulary("laion")


def test_a_download_root_takes_the_place_of_the_cache(server, tmp_path, monkeypatch) -> None:
    words = "".join(f"{word}\n" for word in load_vocabulary("emoji")[-3:]).encode()
    shipped = weights_directory("emoji-clip") / "image_mean.safetensors"
    for published, key, name, content in (
        (vocabulary.PUBLISHED, "laion", "laion.txt", words),
        (PUBLISHED_MEANS, "zoo:emoji-clip", "mean.safetensors", shipped.read_bytes()),
    ):
        (tmp_path / "served" / name).write_bytes(content)
        monkeypatch.setitem(published, key, RemoteFile(f"{server}/{name}", hashlib.sha256(content).hexdigest()))
    monkeypatch.setenv("CONCEPTRY_CACHE", str(tmp_path / "cache"))
    model = splice.load(vocabulary="laion", image_mean="published", device="cpu", download_root=tmp_path / "root")
    assert len(model.vocabulary) == 3
    kept = sorted(path.name.partition("-")[2] for path in (tmp_path / "root").iterdir())
    assert kept == ["laion.txt", "mean.safetensors"]
    assert not (tmp_path / "cache").exists()


def test_a_download_with_another_digest_is_not_kept(server, tmp_path) -> None:
    (tmp_path / "served" / "words.txt").write_bytes(b"not what was published")
    with pytest.raises(IntegrityError, match=r"expected SHA-256 0000.*nothing was kept"):
        fetch(RemoteFile(f"{server}/words.txt", "0" * 64), tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_published_files_are_pinned() -> None:
    for remote in (*vocabulary.PUBLISHED.values(), *PUBLISHED_MEANS.values()):
        assert remote.url.startswith("https://")
        assert len(remote.sha256) == 64
