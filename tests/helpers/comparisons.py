"""Comparisons whose samples are known, without a store."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd

from conceptry.evaluation.comparison.compared import ComparedVersions, Key
from conceptry.registry.comparison import compare_versions
from conceptry.registry.versions import Measured, Version

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def compared_versions(
    revisions: tuple[int, ...] = (1, 1), champion: int | None = None, params: str = "", **columns: list[np.ndarray]
) -> ComparedVersions:
    """Versions 1, 2, ... of splice with the samples of `columns`; gap_max is measured too, which is no mean."""
    tables: dict[Key, pd.DataFrame] = {}
    versions = []
    for k in range(len(next(iter(columns.values())))):
        table = pd.DataFrame({name: each[k] for name, each in columns.items()})
        tables[k + 1] = table.assign(sample=[f"s{i}" for i in range(len(table))])
        metrics = {name: float(np.mean(each[k])) for name, each in columns.items()} | {"gap_max": float(k)}
        measured = (Measured("scenes", "d1", metrics, NOW),)
        aliases = ("champion",) if champion == k + 1 else ()
        known = {"p": f"{k} {params}"}
        versions.append(Version("words", k + 1, "splice", "f", aliases, known, measured, {}, NOW, "run", "m-1"))
    records: dict[Key, dict] = {
        key: {"revision": revisions[k % len(revisions)], "notes": [], "count": len(table), "unit": "pictures"}
        for k, (key, table) in enumerate(tables.items())
    }
    return ComparedVersions(compare_versions(versions), tables, records)
