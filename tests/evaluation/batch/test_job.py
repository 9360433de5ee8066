"""`conceptry batch` on a real Spark: what is answered, refused, left alone, and said."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from conceptry.batch import Settings, explain
from conceptry.evaluation.batch.session import JVM, SETTINGS
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.folders import locked
from conceptry.models.images import image_files, png_bytes
from conceptry.registry import load

pytestmark = [
    pytest.mark.usefixtures("store"),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
    pytest.mark.filterwarnings("ignore::Warning:pyspark"),
    pytest.mark.filterwarnings("ignore:PySpark does not yet"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
ANSWER = ["concepts", "l0", "cosine", "gap", "error", "version", "fingerprint"]


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    for name, value in (SETTINGS | {"spark.sql.shuffle.partitions": "1", "spark.driver.extraJavaOptions": JVM}).items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, picture: Image.Image) -> Path:
    """Eight pictures, whose names are what names can be, one that is cut off, and one that is too large."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "below").mkdir()
    names = ("0.png", "a b.PNG", "c:d.png", "e%20[1].png", "é?.png", "below/f#.png", "below/0.png", "{g}.png")
    for turn, name in enumerate(names):
        (folder / name).write_bytes(png_bytes(picture.rotate(15 * turn)))
    (folder / ".hidden.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    (folder / "cut.png").write_bytes(png_bytes(picture)[:100])
    (folder / "large.jpg").write_bytes(b"\0" * 5000)
    return folder


def read(output: Path) -> pd.DataFrame:
    """All rows, by their ids; of whole files alone, as every reader of Spark's output sees them."""
    files = sorted(output.glob("part-*.parquet"))
    rows = pa.concat_tables([pyarrow.parquet.read_table(file) for file in files]).to_pandas()
    return rows.astype(object).where(rows.notna(), None).sort_values("id")


def test_a_folder_is_answered_once_whatever_happens(spark, tiny_version, folder: Path, tmp_path: Path) -> None:
    output, how = tmp_path / "answers", Settings(part_rows=3, max_bytes=4000)
    done = explain(tiny_version.uri, str(folder), str(output), spark=spark, settings=how)
    rows = read(output)
    assert list(rows) == ["id", *ANSWER]
    assert rows["id"].tolist() == sorted(map(str, image_files(folder)))
    errors = {Path(row["id"]).name: row["error"] for row in rows.to_dict("records") if row["error"]}
    assert errors == {
        "cut.png": "column 'image': the picture cannot be decoded: it is cut off or damaged (OSError)",
        "large.jpg": "the file has 5,000 bytes; at most 4,000 are accepted",
    }
    assert (done.rows, done.answered, done.there, done.errors) == (10, 10, 0, 2)
    assert set(rows["version"]) == {"tiny/1"}
    local = load(tiny_version.uri).predict(pd.DataFrame({"image": [(folder / "a b.PNG").read_bytes()]}))
    answer = rows.set_index("id").loc[str(folder / "a b.PNG")]
    assert answer["l0"] == local["l0"][0]
    assert [c["concept"] for c in answer["concepts"]] == [c["concept"] for c in local["concepts"][0]]
    # A job that was killed: files are missing, and what it was about to write lies beside.
    parts = sorted(output.glob("part-*.parquet"))
    assert len(parts) > 2
    lost = len(pyarrow.parquet.read_table(parts[0])) + len(pyarrow.parquet.read_table(parts[-1]))
    parts[0].unlink()
    (output / "_temporary" / "0").mkdir(parents=True)
    parts[-1].rename(output / "_temporary" / "0" / parts[-1].name)
    shutil.copy(folder / "0.png", folder / "new.png")
    again = explain(tiny_version.uri, str(folder), str(output), spark=spark, settings=how)
    (folder / "new.png").unlink()
    assert (again.answered, again.there) == (lost + 1, 10 - lost)
    assert sorted(read(output)["id"]) == sorted([*rows["id"], str(folder / "new.png")])
    assert not (output / "_temporary").exists()
    # Another answer to the same rows is another row.
    params = Settings(params={"top_k": 1}, part_rows=20, max_bytes=4000)
    assert explain(tiny_version.uri, str(folder), str(output), spark=spark, settings=params).answered == 10
    assert read(output).groupby("id").size().value_counts().to_dict() == {2: 10, 1: 1}
    run = mlflow.get_run(done.run_id)
    assert run.info.status == "FINISHED"
    assert {name: run.data.metrics[name] for name in ("rows", "rows_answered", "errors")} == {
        "rows": 10, "rows_answered": 10, "errors": 2,
    }  # fmt: skip
    assert run.data.params["version"] == tiny_version.uri
    assert [each.model_id for each in run.inputs.model_inputs] == [tiny_version.model_id]
    assert run.inputs.dataset_inputs[0].dataset.name == str(folder)
    assert sum(row["rows"] for row in done.sentences) == 2


def test_unreadable_files_have_a_row(spark, tiny_version, folder: Path, tmp_path: Path, monkeypatch) -> None:
    from conceptry.evaluation.batch import inputs

    pictures = inputs._images

    def unread(*arguments: Any) -> Any:
        """What Spark gives where it could not read two files."""
        from dataclasses import replace

        found = pictures(*arguments)
        return replace(found, rows=found.rows.where("id not like '%/0.png'"))

    monkeypatch.setattr(inputs, "_images", unread)
    explain(tiny_version.uri, str(folder / "below"), str(tmp_path / "answers"), spark=spark)
    rows = read(tmp_path / "answers").set_index("id")
    assert rows["error"].to_dict() == {
        str(folder / "below" / "0.png"): "the file cannot be read",
        str(folder / "below" / "f#.png"): None,
    }


def test_tables_pass_their_columns_through(spark, harsanyi_version, tiny_rows, tmp_path: Path) -> None:
    table = pd.DataFrame(tiny_rows).astype({"age": object})
    table.insert(0, "sku", ["007", "1e5", "x"])
    table["note"] = ['a "b",\nc', "", "NA"]
    table.loc[2, "age"] = "old"
    table.to_csv(tmp_path / "rows.csv", index=False)
    output, how = tmp_path / "answers", Settings(id_column="sku", params={"target": "mid", "top_k": 3})
    done = explain(harsanyi_version.uri, str(tmp_path / "rows.csv"), str(output), spark=spark, settings=how)
    rows = read(output)
    assert list(rows)[:7] == ["id", *tiny_rows[0], "note"]
    assert rows["id"].tolist() == ["007", "1e5", "x"]
    assert rows["note"].tolist() == ['a "b",\nc', None, "NA"]
    assert rows["error"].tolist() == [None, None, "column 'age': 'old' is not a number"]
    expected = load(harsanyi_version.uri).predict(pd.DataFrame(tiny_rows[:2]), params=dict(how.params))
    assert rows["v_full"].tolist()[:2] == pytest.approx(expected["v_full"].tolist())
    assert [[list(p["players"]) for p in each] for each in rows["patterns"][:2]] == [
        [p["players"] for p in each] for each in expected["patterns"]
    ]
    assert done.sentences[0]["rows"] == 1


def test_rows_without_an_id_are_known_by_what_they_hold(spark, tiny_version, tmp_path: Path) -> None:
    lines = [{"text": "a dog"}, {"text": "a red car"}, {"text": "a dog"}, {"text": " "}]
    path, output = tmp_path / "texts.jsonl", tmp_path / "answers"
    path.write_text("\n".join(map(json.dumps, lines)) + "\nno object\n")
    how = Settings(format="json")
    first = explain(tiny_version.uri, str(path), str(output), spark=spark, settings=how)
    assert (first.answered, first.errors) == (5, 2)
    path.write_text("\n".join(map(json.dumps, [{"text": "new"}, *lines, {"text": "a dog"}])))
    assert explain(tiny_version.uri, str(path), str(output), spark=spark, settings=how).answered == 2
    rows = [json.loads(line) for file in output.glob("part-*.json") for line in file.read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == 7
    assert [list(row) for row in rows] == [["id", "text", *ANSWER]] * 7
    assert sorted(str(row["text"]) for row in rows if row["error"] is None) == ["a dog"] * 3 + ["a red car", "new"]


def test_a_dataframe_of_the_caller(spark, tiny_version, tmp_path: Path) -> None:
    vectors = [[float(i == j) + 0.1 for j in range(64)] for i in range(3)]
    frame = spark.createDataFrame([(i, vector, i / 2) for i, vector in enumerate(vectors)], ["id", "embedding", "half"])
    explain(tiny_version.uri, frame, str(tmp_path / "answers"), settings=Settings(params={"return_embedding": True}))
    rows = read(tmp_path / "answers")
    assert (rows["id"].tolist(), rows["half"].tolist()) == (["0", "1", "2"], [0.0, 0.5, 1.0])
    assert rows["recomposed"].map(len).tolist() == [64] * 3
    assert spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch") == "10000"


def test_too_many_errors_end_the_job(spark, tiny_version, tmp_path: Path) -> None:
    frame = spark.createDataFrame([(str(i), " " if i % 2 else "a dog") for i in range(200)], ["id", "text"])
    output, how = tmp_path / "answers", Settings(max_error_share=0.1, part_rows=110)
    with pytest.raises(ConceptryError, match=r"of \d+ rows were refused, more than the share 0.1"):
        explain(tiny_version.uri, frame, str(output), settings=how)
    assert len(read(output)) in (100, 200)
    (run,) = mlflow.search_runs(experiment_names=["conceptry/batch"], max_results=1, output_format="list")
    assert run.info.status == "FAILED"
    assert run.data.metrics["errors"] == read(output)["error"].notna().sum()


def test_what_is_refused_before_the_work(spark, tiny_version, harsanyi_version, folder: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "answers")

    def refusal(uri: str, rows: dict, **settings: Any) -> str:
        frame = spark.createDataFrame(pd.DataFrame(rows))
        with pytest.raises(InputError) as caught:
            explain(uri, frame, output, settings=Settings(**settings))
        return str(caught.value)

    tiny, texts = tiny_version.uri, {"text": ["a", "b"], "n": [1, 1]}
    assert "has no column 'image' or 'text' or 'embedding'" in refusal(tiny, {"words": ["a"]})
    assert "2 rows have the id '1' in column 'n'" in refusal(tiny, texts, id_column="n")
    assert "the id, column 'id', is empty in 1 row" in refusal(tiny, {"id": ["a", None], "text": ["a", "b"]})
    assert "the input's column 'gap' has the name of one of the answer" in refusal(tiny, {"text": ["a"], "gap": [1]})
    assert "has no parameter 'topk'" in refusal(tiny, texts, params={"topk": 1})
    assert "has no column 'height'" in refusal(harsanyi_version.uri, {"age": [1.0]})
    with pytest.raises(ConceptryError, match="top_k must be at least 1, got 0; what is done stays"):
        explain(tiny, spark.createDataFrame(pd.DataFrame(texts)), output, settings=Settings(params={"top_k": 0}))
    with locked(tmp_path / "answers", "answers"), pytest.raises(InputError, match="another run is writing answers"):
        explain(tiny, str(folder), output, spark=spark)
    with pytest.raises(InputError, match="no such folder"):
        explain(tiny, str(tmp_path / "nowhere"), output, spark=spark)
    (folder / "_x.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"_x\.png: Spark reads nothing whose name begins with _"):
        explain(tiny, str(folder), output, spark=spark)
    (folder / "_x.png").unlink()


def test_the_command(spark, tiny_version, folder: Path, tmp_path: Path, command_line, monkeypatch) -> None:
    from conceptry.evaluation.batch import session

    masters = []
    monkeypatch.setattr(session, "own_session", lambda master: masters.append(master) or contextlib.nullcontext(spark))
    words = ["batch", "tiny/1", str(folder / "below"), "--output", str(tmp_path / "answers")]
    code, out, err = command_line(*words, "--params", '{"top_k": 2}', "--master", "local[1]")
    assert (code, masters) == (0, ["local[1]"]), err
    assert "tiny/1: 2 rows answered, 0 there before, 0 refused" in out
