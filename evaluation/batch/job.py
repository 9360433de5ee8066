"""Explain a whole data set by a version: one Spark job over the rows that the output lacks."""

import hashlib
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from conceptry.evaluation.batch import session as s
from conceptry.evaluation.batch.answers import ERROR, FINGERPRINT, ID
from conceptry.evaluation.batch.inputs import check_ids, read_source, table_source
from conceptry.evaluation.batch.output import Output
from conceptry.evaluation.batch.predictor import (
    REFUSED,
    Asked,
    added_arrays,
    answered_batches,
    asked_version,
    in_folder,
    passed_columns,
)
from conceptry.evaluation.batch.refusals import without_names
from conceptry.evaluation.batch.settings import PART_ROWS, Done, Settings
from conceptry.evaluation.batch.tracking import EXPERIMENT, log_data, log_errors
from conceptry.evaluation.runs import Run, new_run
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.folders import temporary_folder
from conceptry.models.method import Progress
from conceptry.registry.integrity import checked_copy
from conceptry.registry.versions import find_version

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

PART_BYTES = 128 * 2**20
FEWEST_JUDGED = 100  # rows before the share of errors ends a job
READ_ALONE = 10_000  # pictures that are read by their names, without the rest of the folder
CANNOT_BE_READ = "the file cannot be read"
MOST_SENTENCES = 1000
_SAID = re.compile(r"^(?:[\w.]+\.)?(?:ConceptryError|InputError|IntegrityError|ParameterError): (.+)$", re.MULTILINE)


class ErrorShareError(ConceptryError):
    """More rows were refused than the caller wanted to accept."""


def explain(
    uri: str,
    source: "str | DataFrame",
    output: str,
    *,
    spark: "SparkSession | None" = None,
    master: str = "local[2]",
    settings: Settings | None = None,
    progress: Progress = lambda what, share: None,
) -> Done:
    """Explain all rows of `source` by the version `uri` and write them to the folder `output`.

    Rows that the output has already, by their id, the version and the parameters, are left alone: a run that was killed
    goes on, and data that have grown cost the new rows.

    Args:
        uri: `models:/NAME/NUMBER`, `NAME/NUMBER` or `NAME@ALIAS`.
        source: a folder of pictures, a table's file or folder, `table:NAME`, or a DataFrame of Spark.
        output: a folder here or where Spark writes, such as `s3a://bucket/answers`.
        spark: the session to use; that of a DataFrame is its own; by default a new one on `master`.
        master: of a new session.
        settings: see there.
        progress: hears what is done, and the share of it.

    Raises:
        InputError: for what cannot be read, written or asked, in one sentence.
        ConceptryError: where the job fails. What is done stays.
    """
    settings = settings or Settings()
    asked = asked_version(uri, settings.params, settings.device)
    with ExitStack() as stack:
        target = Output(output, settings.format)
        if spark is None and isinstance(source, str):
            s.check_installed()
            stack.enter_context(target.alone())  # before Spark starts, which takes seconds
            progress("starting Spark", 0.0)
            spark = stack.enter_context(s.own_session(master))
        else:
            spark = spark or source.sparkSession  # type: ignore[union-attr]  # a DataFrame, since it is no text
            stack.enter_context(target.alone())
        assert spark is not None
        stack.enter_context(target.written_by(spark))
        return _Job(spark, asked, source, target, settings, progress).run()


class _Job:
    def __init__(
        self,
        spark: "SparkSession",
        asked: Asked,
        source: "str | DataFrame",
        target: Output,
        settings: Settings,
        progress: Progress,
    ) -> None:
        self.spark, self.asked, self.target, self.settings, self.progress = spark, asked, target, settings, progress
        if isinstance(source, str):
            given = (settings.input_format, settings.id_column, settings.max_bytes)
            self.source = read_source(spark, source, asked, *given)
        else:
            self.source = table_source(source, asked, settings.id_column)
        self.passed = passed_columns(asked, self.source.rows.columns)
        self.part_rows = settings.part_rows or PART_ROWS[self.source.is_folder]

    def run(self) -> Done:
        self.target.check(self.spark, self._schema())
        self.progress("reading the input", 0.0)
        check_ids(self.source, self.settings.id_column)
        version = find_version(self.asked.uri)
        name = f"{self.asked.title} over {self.source.name}"
        with new_run(EXPERIMENT, name, self._params()) as run, ExitStack() as stack:
            stack.enter_context(s.settings(self.spark, self._spark_settings()))
            rows, digest = self._describe()
            log_data(run, version, self.source.name, digest)
            missing = self._missing()
            count = missing.count()
            there = self._there()
            before = 0 if there is None else there.count()  # of rows that the input has no more among them
            seen, seconds, ended = 0, 0.0, None
            if count:
                folder = stack.enter_context(temporary_folder("batch"))
                copy = checked_copy(version, folder / f"version-{uuid.uuid4().hex}")
                self.spark.sparkContext.addFile(str(copy), recursive=True)
                self.asked = in_folder(self.asked, copy.name)
                began = time.perf_counter()
                seen, ended = self._write(self._rows(missing, count, rows), count)
                seconds = time.perf_counter() - began
                if self.source.is_folder and not ended and seen != count:
                    self._account_for_unread()
            return self._done(run, rows, rows - count, before, seconds, ended)

    def _write(self, frame: "DataFrame", count: int) -> tuple[int, str | None]:
        """Ask about the rows of `frame` and write what is said; return how many there were, and why it ended early.

        Spark counts each row once, whatever it has to repeat: rows are asked about in the tasks that write.
        """
        from pyspark import InheritableThread

        asked, passed, context, group = (
            self.asked,
            self.passed,
            self.spark.sparkContext,
            f"conceptry-{uuid.uuid4().hex}",
        )
        seen, refused = context.accumulator(0), context.accumulator(0)

        def answer(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            for batch, bad in answered_batches(asked, passed, batches):
                seen.add(batch.num_rows)
                refused.add(bad)
                yield batch

        failures: list[BaseException] = []

        def work() -> None:
            context.setJobGroup(group, f"{asked.title} explains {self.source.name}"[:200])
            try:
                self.target.append(frame.mapInArrow(answer, self._schema()))
            except BaseException as error:
                failures.append(error)

        thread = InheritableThread(target=work, daemon=True)
        began, ended = time.perf_counter(), None
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.5)
                self.progress(_said(seen.value, count, time.perf_counter() - began), min(1.0, seen.value / count))
                if ended is None and (ended := self._judge(refused.value, seen.value)):
                    context.cancelJobGroup(group)
        except BaseException:
            context.cancelJobGroup(group)
            raise
        if failures and not ended:
            raise ConceptryError(_reason(failures[0])) from None
        return seen.value, ended or self._judge(refused.value, seen.value, fewest=1)

    def _judge(self, refused: int, seen: int, fewest: int = FEWEST_JUDGED) -> str | None:
        most = self.settings.max_error_share
        if seen < fewest or refused <= most * seen:
            return None
        return f"{refused:,} of {seen:,} rows were refused, more than the share {most:g} that was to be accepted"

    def _rows(self, missing: "DataFrame", count: int, rows: int) -> "DataFrame":
        """The rows that are not there yet, in parts of the size that was asked for."""
        if self.source.is_folder:
            if count == rows:
                return self.source.rows
            if count <= READ_ALONE:
                return self.source.only([row[ID] for row in missing.collect()]).rows
            return self.source.rows.join(missing, ID, "left_semi")
        parts = max(self.spark.sparkContext.defaultParallelism, -(-count // self.part_rows))
        frame = self.source.rows if count == rows else self.source.rows.join(missing, ID, "left_semi")
        return frame.repartition(parts)

    def _missing(self) -> "DataFrame":
        """Ids of the input that the output has no row of, by this version and these parameters."""
        there = self._there()
        return self.source.ids if there is None else self.source.ids.join(there, ID, "left_anti")

    def _there(self) -> "DataFrame | None":
        from pyspark.sql import functions as f

        rows = self.target.rows(self.spark)
        return None if rows is None else rows.where(f.col(FINGERPRINT) == self.asked.fingerprint)

    def _account_for_unread(self) -> None:
        """Rows for the files that Spark has left out, since they could not be read."""
        from pyspark.sql import functions as f

        missing = self._missing()
        if not missing.isEmpty():
            nothing = f.lit(None).cast("binary").alias("image")
            frame = missing.select(ID, nothing, f.lit(CANNOT_BE_READ).alias(REFUSED)).coalesce(1)
            self._write(frame, max(1, missing.count()))

    def _describe(self) -> tuple[int, str]:
        """How many rows the input has, and a digest of the paths, sizes and times of its files, or else of its ids."""
        from pyspark.sql import functions as f

        listed = self.source.ids if self.source.files is None else self.source.files
        each = f.xxhash64(*(f.col(name).cast("string") for name in listed.columns))
        found = listed.agg(f.count("*"), f.bit_xor(each), f.sum(each.cast("decimal(38,0)"))).collect()[0]
        rows = found[0] if self.source.is_folder else self.source.ids.count()
        if not rows:
            raise InputError(f"{self.source.name}: holds no rows")
        return rows, hashlib.sha256(" ".join(map(str, found)).encode()).hexdigest()

    def _done(self, run: Run, rows: int, there: int, before: int, seconds: float, ended: str | None) -> Done:
        """Count what the output holds, log it, and say it. Raises ErrorShareError where that is why it ended."""
        from pyspark.sql import functions as f

        output = self._there()
        errors, sentences = 0, []
        written = 0
        if output is not None:
            written, errors = output.agg(f.count("*"), f.count(ERROR)).collect()[0]
            refused = output.where(f.col(ERROR).isNotNull()).groupBy(ERROR)
            counted = refused.agg(f.count("*").alias("rows"), f.min(ID).alias("for example"))
            found = counted.orderBy(f.desc("rows"), ERROR).limit(MOST_SENTENCES).collect()
            sentences = by_sentence([row.asDict() for row in found])
        answered = written - before
        log_errors(run, sentences)
        run.metrics(
            {"rows": rows, "rows_answered": answered, "rows_there": there, "errors": errors, "seconds": seconds}
            | {"rows_per_second": answered / seconds if answered else 0.0, "error_share": errors / max(1, written)}
        )
        if ended:
            raise ErrorShareError(f"{ended}; what is done stays in {self.target.folder}, run {run.run_id} says why")
        return Done(self.asked.title, rows, answered, there, errors, tuple(sentences), seconds, run.run_id)

    def _schema(self) -> Any:
        from pyspark.sql.pandas.types import from_arrow_schema
        from pyspark.sql.types import StructField, StructType

        fields = {field.name: field.dataType for field in self.source.rows.schema.fields}
        arrays = added_arrays(self.asked, [], [])
        added = from_arrow_schema(pa.schema([(name, array.type) for name, array in arrays.items()]))
        return StructType([*(StructField(name, fields[name]) for name in self.passed), *added.fields])

    def _spark_settings(self) -> dict[str, str]:
        return {
            "spark.sql.execution.arrow.maxRecordsPerBatch": str(self.settings.batch_rows),
            "spark.sql.files.maxPartitionBytes": str(PART_BYTES),
            # A file counts as its bytes and this, so that as many make a part.
            "spark.sql.files.openCostInBytes": str(max(1, PART_BYTES // self.part_rows)),
        }

    def _params(self) -> dict[str, Any]:
        said = {"version": self.asked.uri, "fingerprint": self.asked.fingerprint, "input": self.source.name}
        said |= {"output": self.target.path, "master": self.spark.sparkContext.master}
        said |= {name: value for name, value in asdict(self.settings).items() if value not in (None, {})}
        return said | {"part_rows": self.part_rows}


def by_sentence(counts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Counts of errors, those together that differ in numbers and quoted values alone."""
    found: dict[str, dict[str, Any]] = {}
    for row, kind in zip(counts, without_names([row[ERROR] for row in counts]), strict=True):
        if kind in found:
            found[kind]["rows"] += row["rows"]
        else:
            found[kind] = dict(row)
    return sorted(found.values(), key=lambda row: -row["rows"])


def _said(seen: int, count: int, seconds: float) -> str:
    if not seen:
        return f"{count:,} rows: the first part is asked about"
    rate = seen / seconds
    left = max(0.0, (count - seen) / rate)
    return f"{seen:,} of {count:,} rows, {rate:,.3g} rows/s, {timedelta(seconds=round(left))} left"


def _reason(error: BaseException) -> str:
    """Why a job failed, in the words of whoever said it last in a Python process, or else in Spark's."""
    text = str(error)
    if said := _SAID.findall(text):
        return f"{said[-1].strip()}; what is done stays, and the same command goes on"
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("at ")]
    return f"the Spark job failed: {lines[-1 if len(lines) == 1 else 0][:500] if lines else type(error).__name__}"
