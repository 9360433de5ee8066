"""`conceptry drift` over what a batch has written: verdict, exit code, files, and the run."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from conceptry.evaluation.drift.ask import find_drift
from conceptry.evaluation.drift.sums import ROWS_AT_ONCE, read_batch
from conceptry.models.errors import InputError
from conceptry.registry import connect


def write(
    folder: Path, shares: dict[str, int], rows: int = 200, version: str = "words/1", kind: str = "parquet"
) -> str:
    """A folder of answers: each word in the first rows of every hundred, and one row in fifty without an answer."""
    folder.mkdir()
    records = [
        {
            "id": f"{k}.png",
            "concepts": [
                {"concept": w, "weight": 0.5 + (k % 7) / 10} for w, share in shares.items() if k % 100 < share
            ],
            "error": None,
            "version": version,
            "fingerprint": "abc",
        }
        for k in range(rows)
    ]
    for record in records[::50]:
        record |= {"concepts": None, "error": "no picture"}
    for part in range(2):
        some, file = records[part::2], folder / f"part-0000{part}-x.{kind}"
        if kind == "parquet":
            pq.write_table(pa.Table.from_pylist(some), file)
        else:
            file.write_text("".join(json.dumps(record) + "\n" for record in some))
    (folder / "_SUCCESS").write_text("")
    return str(folder)


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_answers_are_added_up_without_those_that_failed(tmp_path: Path, kind: str) -> None:
    found = read_batch(write(tmp_path / "a", {"red": 30, "tree": 100}, kind=kind))
    assert (found.method, found.rows, found.errors, found.versions) == ("splice", 196, 4, {("words/1", "abc")})
    weights = [0.5 + (k % 7) / 10 for k in range(200) if k % 100 < 30 and k % 50]
    assert found.sums["red"].tolist() == pytest.approx([len(weights), sum(weights), sum(w * w for w in weights)])


def test_json_is_read_whatever_its_first_rows_hold(tmp_path: Path) -> None:
    about = {"version": "words/1", "fingerprint": "abc"}
    rows = [about | {"concepts": None, "error": "no picture", "extra": "2020-01-01"}] * 3
    rows += [about | {"concepts": [], "error": None, "extra": None}] * 3
    rows += [about | {"concepts": [{"concept": "2020-01-01", "weight": 1}], "error": None, "extra": "x"}] * 3
    (tmp_path / "part-0.json").write_text("")  # as Spark writes a part without rows
    for k, some in enumerate((rows[:3], rows[3:], rows), start=1):
        (tmp_path / f"part-{k}.json").write_text("".join(json.dumps(row) + "\n" for row in some))
    found = read_batch(str(tmp_path))
    assert (found.rows, found.errors) == (12, 6)
    assert found.sums["2020-01-01"].tolist() == [6, 6, 6]


def test_patterns_are_concepts(tmp_path: Path) -> None:
    patterns = [{"players": ["age", "sex"], "kind": "and", "effect": -0.5, "spread": None}]
    row = {"patterns": patterns, "error": None, "version": "rows/1", "fingerprint": "abc"}
    for folder, write_rows in (
        ("parquet", lambda file: pq.write_table(pa.Table.from_pylist([row] * 4), f"{file}.parquet")),
        ("json", lambda file: Path(f"{file}.json").write_text(4 * (json.dumps(row) + "\n"))),
    ):
        (tmp_path / folder).mkdir()
        write_rows(tmp_path / folder / "part-0")
        found = read_batch(str(tmp_path / folder))
        assert (found.method, found.sums["age AND sex"].tolist()) == ("harsanyi", [4, -2, 1])


def test_more_rows_than_are_read_at_once(tmp_path: Path) -> None:
    found = read_batch(write(tmp_path / "a", {"red": 10}, rows=2 * ROWS_AT_ONCE + 100))
    assert found.rows + found.errors == 2 * ROWS_AT_ONCE + 100


def test_drift_is_said_by_exit_code_files_and_run(command_line, store, tmp_path: Path) -> None:
    before = write(tmp_path / "before", {"red": 20, "tree": 50, "sun": 30})
    after = write(tmp_path / "after", {"red": 45, "tree": 50, "sun": 30})
    code, out, _ = command_line("drift", before, before)
    assert code == 0
    assert out.startswith("no drift: none of 3 concepts has changed beyond chance and by enough")
    saved = tmp_path / "drift.json"
    code, out, err = command_line("drift", before, after, "--output", str(saved))
    assert code == 3
    assert out.startswith("drift: 1 of 3 concepts have changed, red\n")
    record = json.loads(saved.read_text())
    assert (record["drift"], record["version"], record["before"]["errors"]) == (True, "words/1", 4)
    red, *others = record["concepts"]
    assert (red["concept"], red["drifted"]) == ("red", True)
    assert red["low"] < red["difference"] < red["high"]
    assert not any(other["drifted"] for other in others)
    run_id = err.strip().rsplit(" ", 1)[1]
    run = connect().get_run(run_id)
    assert (run.info.status, run.data.metrics["drifted"], run.data.metrics["errors_after"]) == ("FINISHED", 1.0, 4.0)
    assert run.data.tags["verdict"] == record["verdict"]
    assert {f.path for f in connect().list_artifacts(run_id)} == {"concepts.json", "drift.json", "drift.png"}


def test_what_is_no_answer_is_refused(command_line, tmp_path: Path) -> None:
    there = write(tmp_path / "a", {"red": 30})
    other = tmp_path / "other"
    other.mkdir()
    pq.write_table(pa.table({"id": ["a"], "error": [None], "version": ["milan/1"]}), other / "part-0.parquet")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "part-0.parquet").write_bytes(b"PAR1 no")
    for path, sentence in (
        (
            "/no/such",
            "/no/such: no such answers; expected a folder that `conceptry batch` has written, or with --version",
        ),
        (str(other), r"^\S+other: holds no answers of splice or harsanyi as `conceptry batch` writes them"),
        (str(broken), "broken: cannot be read: "),
    ):
        with pytest.raises(InputError, match=sentence):
            find_drift(there, path)
    code, _, err = command_line("drift", there, there, "--output", "x.bmp")
    assert (code, err.count("\n")) == (2, 1)


def test_a_version_is_asked_about_two_data_sets(tiny_version, tmp_path: Path) -> None:
    found = find_drift("zoo:emoji-scenes", "zoo:emoji-spurious", tiny_version.uri, size=6, device="cpu")
    assert (found.before.rows, found.after.rows, found.version) == (6, 6, "tiny/1")
    assert found.table["share_before"].between(0, 1).all()
