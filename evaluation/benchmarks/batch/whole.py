"""All that is measured of a batch, on two cores of this machine, and what it comes to on many."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conceptry.evaluation.batch.job import explain
from conceptry.evaluation.batch.session import check_installed, own_session
from conceptry.evaluation.batch.settings import Settings
from conceptry.evaluation.benchmarks.batch import data, ends, memory, requests
from conceptry.evaluation.benchmarks.batch.speed import LEAST, WARM, side_by_side
from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target
from conceptry.evaluation.benchmarks.servers import own_store

MASTER = "local[2]"
FLAT = 1.1
MANY, EXECUTORS = 10**9, 100  # pictures and cores of the estimate
PART_ROWS = 5000  # of the estimate: a file of the output for so many pictures


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    images: int = 4000
    rows: int = 20_000
    embeddings: tuple[int, ...] = (10_000, 1_000_000)
    corrupt: int = 1000
    killed: int = 400  # pictures of a batch that is killed
    kills: int = 100


QUICK = Sizes(images=400, rows=400, embeddings=(2_000, 8_000), corrupt=200, killed=120, kills=2)


def run(
    dictionary: Path | None = None,
    quick: bool = False,
    progress: Callable[[str], None] = print,
    kills: int | None = None,
) -> Benchmark:
    """Measure; some hours, or about ten minutes if `quick`. `dictionary` says nothing here: other benchmarks take one.

    Raises InputError where Spark or Java is missing.
    """
    check_installed()
    sizes = QUICK if quick else Sizes()
    records: list[Record] = []

    def found(*more: Record) -> None:
        for record in more:
            records.append(record)  # and said at once: what is known is not lost with a run that is stopped
            said = ", ".join(f"{name} {_short(value)}" for name, value in record.extra.items())
            progress(f"{record.case}, {record.implementation}: {record.seconds or 0:.3g} s, {said}")

    with own_store() as folder:
        progress("registering")
        splice, trees = data.splice_version(), data.trees_version(folder)
        images = data.images(folder / "pictures", sizes.images)
        found(*requests.side_by_side(splice, images))
        with own_session(MASTER) as spark:
            plan = Settings(part_rows=max(50, min(500, sizes.images // 8)))
            found(*side_by_side("splice", splice, images, spark, folder, plan, progress))
            table = data.table(folder / "rows.parquet", sizes.rows)
            plan = Settings(part_rows=max(50, min(1000, sizes.rows // 8)), batch_rows=256)
            found(*side_by_side("harsanyi", trees, table, spark, folder, plan, progress))
            found(corrupt(splice, folder, sizes.corrupt, spark))
            known = data.known_embeddings(splice, images)
            sources = {n: data.embeddings(folder / f"embeddings-{n}", n, known) for n in sizes.embeddings}
            found(*memory.peaks(splice, sources, spark, folder))
        few = data.images(folder / "few", sizes.killed)
        found(ends.kill(splice, few, folder, kills or sizes.kills, progress))
    notes = [f"{MASTER}; warm: the processes of Spark hold the version already", estimate(records)]
    return Benchmark("batch", records, targets(records), notes)


def corrupt(uri: str, folder: Path, count: int, spark: Any) -> Record:
    """A batch over pictures of which one in a hundred is cut off."""
    source = data.images(folder / "corrupt", count, corrupt=True)
    done = explain(uri, str(source), str(folder / "corrupt-answers"), spark=spark)
    bad = sum(1 for i in range(count) if i % data.CORRUPT == data.CORRUPT // 2)
    said = {"rows": done.rows, "cut off": bad, "refused": done.errors, "answered": done.answered - done.errors}
    return Record("corrupt, 1 % of the pictures", "batch, two cores", done.seconds, extra=said)


def targets(records: list[Record]) -> list[Target]:
    """What a batch has to show."""
    kills = next(record for record in records if record.case == "kills").extra
    warm = {r.case: r.extra["x loop"] for r in records if r.implementation == WARM}
    peaks = [r.extra for r in records if r.case.startswith("memory")]
    bad = next(r for r in records if r.case.startswith("corrupt")).extra
    promised = [Target(f"times the plain loop, {case}", ratio, LEAST, "min") for case, ratio in warm.items()]
    by_cpu = {r.case: r.extra["x by CPU"] for r in records if r.implementation == WARM}
    promised += [Target(f"times the plain loop by CPU time, {case}", x, LEAST, "min") for case, x in by_cpu.items()]
    promised += [
        Target(
            f"memory, most rows over fewest, {name.removesuffix(' MiB')}", peaks[-1][name] / peaks[0][name], FLAT, "max"
        )
        for name in ("workers MiB", "driver MiB", "java MiB")
        if peaks[0][name]
    ]
    promised += [Target(f"rows {what} after kills", float(kills[what]), 0, "max") for what in ("lost", "doubled")]
    missed = bad["rows"] - bad["cut off"] - bad["answered"]
    return [*promised, Target("good rows without an answer beside corrupt ones", float(missed), 0, "max")]


def estimate(records: list[Record]) -> str:
    """What a cluster would take for very many pictures, by the costs of a row and a start that were measured."""
    row = next(r for r in records if r.case == "splice" and r.implementation == WARM)
    cold = next(r for r in records if r.case == "splice" and r.implementation == "batch, two cores")
    core = row.extra["CPU ms/row"] / 1e3  # seconds of a core for a picture
    start = max(0.0, (cold.seconds or 0.0) - (row.seconds or 0.0))
    parts = MANY // PART_ROWS
    hours = MANY * core / EXECUTORS / 3600
    return (
        f"on paper, {MANY:.0e} pictures on {EXECUTORS} executors of one core: {core * 1e3:.2g} ms of a core each, so "
        f"{hours:,.3g} hours; {parts:,} files of {PART_ROWS:,} rows; {start:.0f} s once for each process to load the "
        f"version; the last parts leave cores idle for {PART_ROWS * core:.0f} s at the most"
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
