"""All of the benchmark of Harsanyi interactions: the table of all subsets, trees, and samples of subsets."""

from collections.abc import Callable
from pathlib import Path

from conceptry.evaluation.benchmarks.harsanyi import sampled, table, trees
from conceptry.evaluation.benchmarks.measure import Benchmark


def run(
    dictionary: Path | None = None, quick: bool = False, progress: Callable[[str], None] = lambda _: None
) -> Benchmark:
    """Measure one engine after another; an hour, or some two minutes if `quick`.

    There is no dictionary here: InputError if one is given.
    """
    parts = [
        table.run(dictionary, quick, progress),
        trees.run(quick, progress),
        sampled.run(quick, progress),
    ]
    return Benchmark(
        parts[0].title,
        [record for part in parts for record in part.records],
        [target for part in parts for target in part.targets],
        [note for part in parts for note in part.notes],
    )
