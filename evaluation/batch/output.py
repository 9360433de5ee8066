"""The folder that answers are written to: what is there already, whose turn it is, and how files come to be in it.

Each task of Spark writes one file, which takes its name in one step when the task is done (Hadoop's committer 2), so a
job that is killed leaves whole files and, below `_temporary`, what no reader sees and the next job removes. What is
there is known by reading the files themselves: `id` and `fingerprint`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conceptry.evaluation.batch import FORMATS
from conceptry.evaluation.batch.answers import ERROR, FINGERPRINT, ID
from conceptry.evaluation.batch.inputs import literal
from conceptry.models.errors import InputError
from conceptry.models.folders import locked

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType


WRITER_LOCK = ".writer.lock"
SECONDS_TO_END = 60.0
_OPTIONS = {"mapreduce.fileoutputcommitter.algorithm.version": "2", "maxRecordsPerFile": 0}


@dataclass(frozen=True)
class Output:
    """A folder, here or where Spark can write, and the format of its files."""

    folder: str
    format: str = "parquet"

    @property
    def path(self) -> str:
        """As Spark takes it."""
        return self.folder if "://" in self.folder else str(Path(self.folder).resolve())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A folder of this machine for this process alone. Raises InputError where another run writes to it."""
        with nullcontext() if "://" in self.folder else locked(Path(self.folder), "answers"):
            yield

    @contextmanager
    def written_by(self, spark: "SparkSession") -> Iterator[None]:
        """The same for Spark's process, which can outlive the one that has started it, and finish files meanwhile."""
        if "://" in self.folder:
            yield
            return
        jvm: Any = spark.sparkContext._jvm
        channel = jvm.java.io.RandomAccessFile(str(Path(self.path) / WRITER_LOCK), "rw").getChannel()
        deadline = time.monotonic() + SECONDS_TO_END
        try:
            while _lock(channel) is None:
                if time.monotonic() > deadline:
                    raise InputError(f"{self.folder}: the Spark of another run still writes there; wait for it")
                time.sleep(0.2)
            yield
        finally:
            channel.close()

    def rows(self, spark: "SparkSession") -> "DataFrame | None":
        """`id`, `error` and `fingerprint` of what is there; None where nothing is."""
        if not self._has_files(spark):
            return None
        reader = spark.read.schema(f"{ID} string, {ERROR} string, {FINGERPRINT} string")
        return reader.format(self.format).load(_escaped(self.path))

    def check(self, spark: "SparkSession", schema: "StructType") -> None:
        """Raise InputError where the files there are of another format, or have other columns."""
        for other in FORMATS:
            if other != self.format and Output(self.folder, other)._has_files(spark):
                raise InputError(f"{self.folder}: holds {other} files; name another folder, or --format {other}")
        if self.format != "parquet" or not self._has_files(spark):
            return  # of JSON, what is null in all rows cannot be seen
        there = {
            field.name: field.dataType.simpleString() for field in spark.read.parquet(_escaped(self.path)).schema.fields
        }
        wanted = {field.name: field.dataType.simpleString() for field in schema.fields}
        if there != wanted:
            odd = next(name for name in {**there, **wanted} if there.get(name) != wanted.get(name))
            raise InputError(
                f"{self.folder}: holds answers with other columns, as {odd!r} shows: of another method or input, or to "
                "other parameters; name another folder"
            )

    def append(self, frame: "DataFrame") -> None:
        """Write rows to new files. What is done stays where the job fails or ends early."""
        options = _OPTIONS | ({"ignoreNullFields": False} if self.format == "json" else {})
        frame.write.mode("append").format(self.format).options(**options).save(self.path)

    def _has_files(self, spark: "SparkSession") -> bool:
        jvm: Any = spark.sparkContext._jvm
        configuration = spark.sparkContext._jsc.hadoopConfiguration()  # type: ignore[union-attr]  # py4j
        pattern = jvm.org.apache.hadoop.fs.Path(f"{_escaped(self.path)}/part-*.{self.format}")
        return bool(pattern.getFileSystem(configuration).globStatus(pattern))


def _lock(channel: Any) -> Any:
    from py4j.protocol import Py4JJavaError

    try:
        return channel.tryLock()
    except Py4JJavaError:  # held by a job of this very process
        return None


def _escaped(path: str) -> str:
    return path if "://" in path else literal(path)
