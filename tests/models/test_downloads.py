"""Where fetched files are kept."""

from pathlib import Path

import pytest

from conceptry.models.downloads import cache_directory


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONCEPTRY_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_directory() == Path("/a")
    monkeypatch.delenv("CONCEPTRY_CACHE")
    monkeypatch.setattr(Path, "home", lambda: Path("/somewhere/someone"))
    assert cache_directory() == Path("/b/conceptry")
    for clear in (lambda: monkeypatch.setenv("XDG_CACHE_HOME", ""), lambda: monkeypatch.delenv("XDG_CACHE_HOME")):
        clear()
        assert cache_directory() == Path("/somewhere/someone/.cache/conceptry")


def test_a_home_is_not_needed_where_the_cache_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.delenv("CONCEPTRY_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_directory() == Path("/b/conceptry")
