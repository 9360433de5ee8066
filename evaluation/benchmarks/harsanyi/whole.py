"""All of the benchmark of Harsanyi interactions: the table of all subsets, trees, and samples of subsets."""

import platform
from collections.abc import Callable
from pathlib import Path

from conceptry.evaluation.benchmarks.harsanyi import sampled, table, trees
from conceptry.evaluation.benchmarks.measure import Benchmark, Ledger


def run(
    dictionary: Path | None = None,
    quick: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    resume: Path | None = None,
) -> Benchmark:
    """Measure one engine after another; a night, or some two minutes if `quick`.

    resume: file that each part, and of samples each game and budget, is kept in as soon as it is measured.
    There is no dictionary here: InputError if one is given.
    """
    ledger = Ledger(resume, {"benchmark": "harsanyi", "quick": quick, "python": platform.python_version()})
    parts = [
        ledger.part("table", lambda: table.run(dictionary, quick, progress)),
        ledger.part("trees", lambda: trees.run(quick, progress)),
        sampled.run(quick, progress, ledger=ledger),
    ]
    return Benchmark(
        parts[0].title,
        [record for part in parts for record in part.records],
        [target for part in parts for target in part.targets],
        [note for part in parts for note in part.notes],
    )
