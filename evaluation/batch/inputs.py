"""Data sets as Spark reads them, each row with an id that stays the same however the data grow or are split.

| input | read by Spark as | id of a row |
|---|---|---|
| a folder of pictures, or a pattern such as `s3a://bucket/*/*.jpg` | `binaryFile` | the picture's whole path |
| `.parquet`, a folder of such files | `parquet` | `--id COLUMN`, by default `id`; without one a digest of the row |
| `.csv` | `csv` with a header, every cell as it is written | the same |
| `.jsonl`, `.ndjson`, `.json` | `json`, one object a line | the same |
| `table:NAME` | a table of Spark's catalogue | the same |

A digest is of all cells of the row; the second of two equal rows has "-2" behind it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conceptry.evaluation.batch.answers import ID
from conceptry.evaluation.batch.predictor import REFUSED, Asked
from conceptry.evaluation.batch.settings import MAX_BYTES
from conceptry.models.errors import InputError, closest, plural
from conceptry.models.images import SUFFIXES, image_files

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


_BY_SUFFIX = {".parquet": "parquet", ".csv": "csv", ".jsonl": "json", ".ndjson": "json", ".json": "json"}
_CORRUPT = "_corrupt_record"
_LOCAL = "^file:(//)?(?=/)"


@dataclass(frozen=True)
class Source:
    """An input that Spark has not read yet.

    Attributes:
        name: as the user wrote it.
        rows: `id`, the columns that a version reads and the others; for rows that are not to be asked about the reason
            in `REFUSED`.
        ids: `id` alone, read without the rest.
        files: path, length and modificationTime of the files that are read; None where there are none to be seen.
        is_folder: whether rows are pictures, in files of their own.
    """

    name: str
    rows: "DataFrame"
    ids: "DataFrame"
    files: "DataFrame | None" = None
    is_folder: bool = False
    max_bytes: int = MAX_BYTES

    def only(self, ids: Sequence[str]) -> "Source":
        """A folder's pictures of these ids alone: nothing else is read."""
        assert self.is_folder
        spark = self.rows.sparkSession
        paths = [local(path) if path.startswith("/") else literal(path) for path in ids]
        found = _images(spark, paths, self.max_bytes)
        return replace(self, rows=found.rows, ids=found.ids)


def read_source(
    spark: "SparkSession", name: str, asked: Asked, format: str | None, id_column: str | None, max_bytes: int
) -> Source:
    """The input of that name for a version. Raises InputError where it is not there or not what the version reads."""
    format = format or _format_of(name)
    if format == "pictures":
        if "image" not in asked.inputs:
            columns = ", ".join(map(repr, asked.inputs))
            raise InputError(f"{name}: {asked.title} reads the columns {columns}, not pictures alone; give it a table")
        if id_column:
            raise InputError(f"--id {id_column}: pictures are known by their paths; leave it out")
        return replace(_images(spark, [_folder(name)], max_bytes), name=name)
    if format == "table":
        frame, files = spark.table(name.removeprefix("table:")), None
    else:
        path = _existing(name)
        frame = {"parquet": spark.read.parquet, "csv": _csv, "json": spark.read.json}[format](
            *((spark, path) if format == "csv" else (path,))
        )
        files = _files(spark, [path])
    return replace(table_source(frame, asked, id_column, name), files=files)


def table_source(frame: "DataFrame", asked: Asked, id_column: str | None, name: str = "the table") -> Source:
    """The rows of a Spark table for a version. Raises InputError where it lacks what the version reads, or the id."""
    from pyspark.sql import functions as f

    names = frame.columns
    frame = frame.toDF(*(text.lstrip("\ufeff") for text in names))
    names = frame.columns
    alike: dict[str, str] = {}
    for text in names:  # Spark does not tell capitals from small letters
        if (other := alike.setdefault(text.casefold(), text)) is not text:
            raise InputError(f"{name}: two columns are called {other!r} and {text!r}; give one of them another name")
    _check_columns(names, asked, name)
    if id_column and id_column not in names:
        near = closest(id_column, names) or names
        raise InputError(f"{name}: has no column {id_column!r} for the id; it has {', '.join(near)}")
    called = alike.get(ID)  # in whatever letters
    if id_column and called and id_column != called:
        raise InputError(f"{name}: has a column {called!r} beside --id {id_column}; give it another name")
    id_column = id_column or called
    line = f.lit(None).cast("string")
    if _CORRUPT in names:
        reason = f.lit("the line cannot be read: it has other cells than the header, or is no JSON object")
        line = f.concat(f.lit("line-"), f.substring(f.sha2(f.col(f"`{_CORRUPT}`"), 256), 1, 32))
        frame = frame.withColumn(REFUSED, f.when(f.col(f"`{_CORRUPT}`").isNotNull(), reason))
    if id_column:
        # A line that cannot be read has no cells, and is known by what it says.
        rows = frame.withColumn(ID, f.coalesce(f.col(f"`{id_column}`").cast("string"), line)).drop(_CORRUPT)
        if id_column.casefold() != ID and id_column not in asked.inputs:
            rows = rows.drop(id_column)
    else:
        rows = _with_digests(frame).drop(_CORRUPT)
    rows = rows.select(ID, *(f.col(f"`{text}`") for text in rows.columns if text != ID))
    return Source(name, rows, rows.select(ID))


def check_ids(source: Source, id_column: str | None) -> None:
    """Raise InputError where a row has no id, or two have the same: rows could not be told apart in the output."""
    from pyspark.sql import functions as f

    if source.is_folder:
        return
    repeated = source.ids.groupBy(ID).count().where(f.col(ID).isNull() | (f.col("count") > 1)).limit(2).collect()
    column = id_column or ID
    for row in repeated:
        if row[ID] is None:
            raise InputError(f"{source.name}: the id, column {column!r}, is empty in {plural(row['count'], 'row')}")
        raise InputError(
            f"{source.name}: {row['count']:,} rows have the id {row[ID]!r} in column {column!r}; expected one row an "
            "id: drop the repeated ones, or name another column by --id"
        )


def _format_of(name: str) -> str:
    if name.startswith("table:"):
        return "table"
    path = Path(name)
    if path.is_dir():
        inside = {file.suffix.lower() for file in path.rglob("*") if not file.name.startswith((".", "_"))}
        found = sorted(inside & _BY_SUFFIX.keys())
        if found and inside & set(SUFFIXES):
            raise InputError(f"{name}: holds pictures and {found[0]} files; say by --input-format which are meant")
        return _BY_SUFFIX[found[0]] if found else "pictures"
    suffix = path.suffix.lower()
    if path.is_file() and suffix in SUFFIXES:
        raise InputError(f"{name}: is one picture; expected a folder of them, or a table")
    return _BY_SUFFIX.get(suffix, "pictures")


def _folder(name: str) -> str:
    """What Spark loads pictures from. Raises InputError for local folders of which it would leave something out."""
    if "://" in name:
        return name
    path = Path(name)
    if not path.is_dir():
        if set(name) & set("*?[{"):
            return f"file:{path.absolute()}"
        raise InputError(f"{name}: no such folder")
    for file in image_files(path):
        left_out = next((part for part in file.relative_to(path).parts if part.startswith("_")), None)
        if left_out:
            raise InputError(f"{file}: Spark reads nothing whose name begins with _; rename {left_out!r}")
    return local(str(path.resolve()))


def _existing(name: str) -> str:
    if "://" in name:
        return name
    path = Path(name)
    if not path.exists() and set(name) & set("*?[{"):
        return f"file:{path.absolute()}"
    if not path.exists():
        raise InputError(f"{name}: no such file or folder")
    return local(str(path.resolve()))


def local(path: str) -> str:
    """The address of a path on this machine, whatever Spark's own file system is."""
    return f"file:{literal(path)}"


def literal(path: str) -> str:
    """A path in which Hadoop sees no pattern."""
    return re.sub(r"([\\*?\[\]{}])", r"\\\1", path)


def _images(spark: "SparkSession", paths: Sequence[str], max_bytes: int) -> Source:
    from pyspark.sql import functions as f

    suffixes = ",".join("".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in each[1:]) for each in SUFFIXES)
    # What cannot be read is left out here, and accounted for when the rest is done.
    options = {"pathGlobFilter": f"*.{{{suffixes}}}", "ignoreCorruptFiles": True, "ignoreMissingFiles": True}
    files = spark.read.format("binaryFile").options(recursiveFileLookup=True, **options).load(list(paths))
    key = f.regexp_replace("path", _LOCAL, "").alias(ID)
    no_text = f.lit(None).cast("string").alias(REFUSED)
    too_large = f.concat(
        f.lit("the file has "), f.format_number("length", 0), f.lit(f" bytes; at most {max_bytes:,} are accepted")
    )
    # Spark reads no content of files that a filter on their length leaves out.
    small = files.where(f.col("length") <= max_bytes).select(key, f.col("content").alias("image"), no_text)
    large = files.where(f.col("length") > max_bytes).select(
        key, f.lit(None).cast("binary").alias("image"), too_large.alias(REFUSED)
    )
    listed = files.select("path", "length", "modificationTime")
    return Source(", ".join(paths), small.unionByName(large), listed.select(key), listed, True, max_bytes)


def _csv(spark: "SparkSession", path: str) -> "DataFrame":
    """Cells as they are written; of lines with other cells than the header the text in `_CORRUPT`."""
    from pyspark.sql.types import StringType, StructField, StructType

    options: dict[str, Any] = {"header": True, "multiLine": True, "escape": '"', "encoding": "UTF-8"}
    header = spark.read.options(**options).csv(path).schema
    schema = StructType([*header.fields, StructField(_CORRUPT, StringType())])
    return (
        spark.read.options(columnNameOfCorruptRecord=_CORRUPT, enforceSchema=True, **options).schema(schema).csv(path)
    )


def _files(spark: "SparkSession", paths: Sequence[str]) -> "DataFrame":
    reader = spark.read.format("binaryFile").option("recursiveFileLookup", True)
    return reader.load(list(paths)).select("path", "length", "modificationTime")


def _check_columns(names: Sequence[str], asked: Asked, name: str) -> None:
    read = [column for column in asked.inputs if column in names]
    lacking = [column for column in asked.needed if column not in names]
    if not read or lacking:
        raise InputError(
            f"{name}: has no column {', '.join(map(repr, lacking)) or ' or '.join(map(repr, asked.inputs))}, which "
            f"{asked.title} reads; it has {', '.join(map(repr, names))}"
        )


def _with_digests(frame: "DataFrame") -> "DataFrame":
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    text = f.to_json(f.struct(*(f.col(f"`{name}`") for name in frame.columns)))
    number = f.row_number().over(Window.partitionBy(ID).orderBy(f.lit(1)))
    frame = frame.withColumn(ID, f.substring(f.sha2(text, 256), 1, 32))
    again = f.when(number > 1, f.concat(f.lit("-"), number.cast("string"))).otherwise(f.lit(""))
    return frame.withColumn(ID, f.concat(f.col(ID), again))
