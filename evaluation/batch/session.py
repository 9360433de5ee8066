"""The Spark that a batch runs on: a session of its own, or the caller's, with settings for the length of a job."""

import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from conceptry.models.errors import InputError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

LOG = Path(__file__).with_name("log4j2.properties")  # what fails is said in one sentence
ATTEMPTS = 4  # of a task: by default local Spark gives each a single one, and a cluster four
# Java only reads rows and hands them to Python: its second compiler and threads that collect garbage would take half of
# two cores for the first minute, and give nothing back.
JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
SETTINGS = {
    "spark.ui.showConsoleProgress": "false",
    "spark.executorEnv.OMP_NUM_THREADS": "1",  # a process a core: threads would only wait
    # Hadoop's other one writes a checksum beside every file, and reads no file with a colon in its name.
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
}


@contextmanager
def own_session(master: str) -> Iterator["SparkSession"]:
    """A session on `master`, which ends with the block. Raises InputError where Spark or Java is not there."""
    check_installed()
    # Spark warns of the newest pandas, of which nothing is used here that it does not know: parts are Arrow's.
    warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")
    from pyspark.sql import SparkSession

    if re.fullmatch(r"local(\[(\d+|\*)\])?", master):
        master = f"{master[:-1] if master.endswith(']') else f'{master}[1'},{ATTEMPTS}]"
    builder = SparkSession.builder.master(master).appName("conceptry batch")
    for name, value in (SETTINGS | (_local(master) if master.startswith("local") else {})).items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:  # of Spark, of Java, and of what stands between them
        raise InputError(f"--master {master}: Spark does not start there ({_line(error)})") from None
    try:
        yield session
    finally:
        session.stop()


def check_installed() -> None:
    """Raise InputError where Spark or Java is missing."""
    try:
        import pyspark  # noqa: F401
    except ModuleNotFoundError:
        raise InputError("batch runs on Spark, which is not installed: pip install 'conceptry[spark]'") from None
    home = os.environ.get("JAVA_HOME")
    if not shutil.which("java") and not (home and (Path(home) / "bin" / "java").exists()):
        raise InputError("Spark needs Java 17 or newer: install it, and put java on PATH or set JAVA_HOME")


def _local(master: str) -> dict[str, str]:
    """Settings of a Spark that is this process and its children."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    cores = re.search(r"\[(\d+)", master)
    return {
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": f"{JVM} -Dlog4j2.configurationFile={LOG.as_uri()}",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": tempfile.gettempdir(),
        "spark.sql.shuffle.partitions": str(2 * int(cores[1] if cores else os.cpu_count() or 1)),
    }


@contextmanager
def settings(session: "SparkSession", values: Mapping[str, str]) -> Iterator[None]:
    """Settings of a session for the length of a block; the caller's own come back."""
    before = {name: session.conf.get(name, None) for name in values}
    for name, value in values.items():
        session.conf.set(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                session.conf.unset(name)
            else:
                session.conf.set(name, value)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
