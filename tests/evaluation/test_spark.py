"""Scaling out: `mlflow.pyfunc.spark_udf` over a registered version, with and without parameters."""

import base64
import shutil

import mlflow
import pandas as pd
import pytest
from PIL import Image

from conceptry.evaluation.batch.session import JVM
from conceptry.models.images import png_bytes
from conceptry.registry import load

pytestmark = [
    pytest.mark.usefixtures("store"),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
    pytest.mark.filterwarnings("ignore::Warning:pyspark"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def spark():
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.extraJavaOptions", JVM)
    session = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", "4").getOrCreate()
    yield session
    session.stop()


def test_spark_gives_the_answers_of_predict(spark, tiny_version, picture: Image.Image) -> None:
    pictures = [png_bytes(picture.rotate(15 * i)) for i in range(6)]
    udf = mlflow.pyfunc.spark_udf(spark, tiny_version.uri, env_manager="local", params={"l1_penalty": 0.05})
    frame = spark.createDataFrame([(i, bytearray(content)) for i, content in enumerate(pictures)], ["id", "image"])
    rows = frame.withColumn("answer", udf("image")).orderBy("id").collect()
    local = load(tiny_version.uri).predict(pd.DataFrame({"image": pictures}), params={"l1_penalty": 0.05})
    for row, l0, concepts in zip(rows, local["l0"], local["concepts"], strict=True):
        assert row["answer"]["l0"] == l0
        assert [c["concept"] for c in row["answer"]["concepts"]] == [c["concept"] for c in concepts]


def test_spark_explains_rows_of_a_table(spark, harsanyi_version, tiny_rows) -> None:
    from pyspark.sql import functions

    params = {"target": "mid", "top_k": 3}
    udf = mlflow.pyfunc.spark_udf(spark, harsanyi_version.uri, env_manager="local", params=params)
    frame = spark.createDataFrame(pd.DataFrame(tiny_rows))
    rows = frame.withColumn("answer", udf(functions.struct(*tiny_rows[0]))).collect()
    local = load(harsanyi_version.uri).predict(pd.DataFrame(tiny_rows), params=params).to_dict("records")
    for row, expected in zip(rows, local, strict=True):
        answer = row["answer"].asDict(recursive=True)
        assert [p["players"] for p in answer["patterns"]] == [p["players"] for p in expected["patterns"]]
        assert [p["effect"] for p in answer["patterns"]] == pytest.approx([p["effect"] for p in expected["patterns"]])
        assert (answer["target"], answer["v_full"]) == ("mid", pytest.approx(expected["v_full"]))


def test_spark_gives_pictures_back_as_base64(spark, perturbation_version, picture: Image.Image) -> None:
    from pyspark.sql import functions

    params = {"mode": "explain_error", "steps": 3}
    udf = mlflow.pyfunc.spark_udf(spark, perturbation_version.uri, env_manager="local", params=params)
    pictures = [png_bytes(picture.rotate(90 * i).resize((8, 8))) for i in range(3)]
    rows = [(i, bytearray(content), "0", str(1 + i)) for i, content in enumerate(pictures)]
    frame = spark.createDataFrame(rows, ["id", "image", "target", "source"])
    answers = frame.withColumn("answer", udf(functions.struct("image", "target", "source"))).orderBy("id").collect()
    table = pd.DataFrame({"image": pictures, "target": "0", "source": ["1", "2", "3"]})
    local = load(perturbation_version.uri).predict(table, params=params).to_dict("records")
    for row, expected in zip(answers, local, strict=True):
        answer = row["answer"].asDict(recursive=True)
        (other,), (wanted,) = answer["other"], expected["other"]
        for side, same in ((answer, expected), (other, wanted)):
            assert base64.b64decode(side["image"]) == same["image"]
            assert (side["target"], side["success"], side["steps"]) == (same["target"], same["success"], same["steps"])
        assert answer["l1"] == pytest.approx(expected["l1"])


def test_spark_describes_units_by_number_and_by_pictures(spark, milan_version) -> None:
    from pyspark.sql import functions
    from pyspark.sql.types import ArrayType, BinaryType, LongType, StringType, StructField, StructType

    import colours

    pairs = [colours.scene("green", seed) for seed in range(2)]
    images = [png_bytes(Image.fromarray(image.transpose(1, 2, 0))) for image, _ in pairs]
    masks = [png_bytes(Image.fromarray(mask[0] * 255)) for _, mask in pairs]
    rows = [("7", 5, None, None), ("first", 3, None, None), (None, None, images, masks)]
    binaries = ArrayType(BinaryType())
    kinds = {"layer": StringType(), "unit": LongType(), "images": binaries, "masks": binaries}
    frame = spark.createDataFrame(rows, StructType([StructField(name, kind) for name, kind in kinds.items()]))
    udf = mlflow.pyfunc.spark_udf(spark, milan_version.uri, env_manager="local", params={"exemplars": True})
    answers = [
        row["answer"].asDict(recursive=True)
        for row in frame.withColumn("answer", udf(functions.struct(*kinds))).collect()
    ]
    local = load(milan_version.uri)
    for row, answer in zip(rows, answers, strict=True):
        table = pd.DataFrame([dict(zip(kinds, row, strict=True))], dtype=object)
        (expected,) = local.predict(table, params={"exemplars": True}).to_dict("records")
        for name in ("images", "masks"):
            assert [base64.b64decode(content) for content in answer.pop(name)] == expected.pop(name)
        assert answer.pop("score") == pytest.approx(expected.pop("score"), abs=1e-5)
        for name in ("layer", "unit", "active", "description", "ids", "activations"):
            assert answer[name] == expected[name]
    assert [answer["description"] for answer in answers] == ["Red", "", "Green"]
