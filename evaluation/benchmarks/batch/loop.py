"""A plain loop over `predict` in one process, the best that one can write: the rival of a batch on one core.

A script: arguments are the version's URI, the input, and how many rows to try each size of request on.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = (16, 64, 256, 1024)


def main() -> None:
    """Print the seconds of the best size of request over the whole input, and of loading, as JSON."""
    import mlflow.pyfunc
    import pandas as pd

    uri, source, tried = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    start = time.perf_counter()
    model = mlflow.pyfunc.load_model(uri, suppress_warnings=True)
    loaded = time.perf_counter() - start
    files = sorted(source.glob("*.png")) if source.is_dir() else None
    table = None if files else pd.read_parquet(source)
    count = len(files or ()) if table is None else len(table)

    def parts(size: int, most: int) -> Iterator[Any]:
        for first in range(0, most, size):
            if table is None:
                assert files is not None
                yield pd.DataFrame({"image": [file.read_bytes() for file in files[first : min(first + size, most)]]})
            else:
                yield table.iloc[first : min(first + size, most)].drop(columns="id")

    def seconds(size: int, most: int) -> tuple[float, float]:
        start, worked = time.perf_counter(), time.process_time()
        answers = [model.predict(part) for part in parts(size, most)]
        pd.concat(answers).to_pickle("/dev/null")  # answers of a loop have to go somewhere, too
        return time.perf_counter() - start, time.process_time() - worked

    model.predict(next(parts(SIZES[0], SIZES[0])))
    found = {size: seconds(size, min(tried, count))[1] for size in SIZES}
    best = min(found, key=lambda size: found[size])
    taken, worked = seconds(best, count)
    print(json.dumps({"size": best, "seconds": taken, "cpu": worked, "loading": loaded, "rows": count}))


if __name__ == "__main__":
    main()
