"""The samples that versions differ on, those of the largest disagreement first, and what each version says of them.

| symbol | meaning |
|---|---|
| x_vi | metric i of a sample by version v |
| s_i | standard deviation of metric i over all samples and versions |

    disagreement = mean_i (max_v x_vi - min_v x_vi) / s_i,    over headline metrics that have a direction and differ
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from conceptry.evaluation.comparison.compared import ComparedVersions, Key
from conceptry.evaluation.data import EvaluationData
from conceptry.evaluation.intervals import SAMPLE
from conceptry.evaluation.isolation.client import VersionProcess
from conceptry.evaluation.presenter import Shown, presenter_of
from conceptry.evaluation.reports import sample_names
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.method import Progress


@dataclass(frozen=True)
class ComparedSample:
    """One sample: its name in the tables, its metrics and what is said of it by version, and how far they disagree."""

    name: str
    disagreement: float
    metrics: Mapping[Key, Mapping[str, float]]
    label: str = ""
    explained: Shown | None = None
    said: Mapping[Key, Shown] = field(default_factory=dict)


def compared_samples(compared: ComparedVersions) -> list[ComparedSample]:
    """The samples that at least two versions were measured on, those of the largest disagreement first."""
    tables = {key: table.set_index(SAMPLE) for key, table in compared.samples.items()}
    if len(tables) < 2:
        return []
    shared = set.intersection(*(set(table.columns) for table in tables.values()))
    headline = [name for name in compared.shown_metrics() if name in shared]
    columns = headline or sorted(shared)
    directed = [name for name in columns if compared.metric(name).better is not None] or columns
    names = list(dict.fromkeys(name for table in tables.values() for name in table.index))
    values = np.stack([table.reindex(names)[columns].to_numpy(float) for table in tables.values()])
    scores = disagreement(values[:, :, [columns.index(name) for name in directed]])
    return [
        ComparedSample(
            names[row],
            float(scores[row]),
            {
                key: {name: float(x) for name, x in zip(columns, values[v, row], strict=True) if np.isfinite(x)}
                for v, key in enumerate(tables)
            },
        )
        for row in np.argsort(-scores, kind="stable")
    ]


def disagreement(values: np.ndarray) -> np.ndarray:
    """How far versions are apart on each sample: (samples,), from metrics (versions, samples, metrics) with NaN."""
    versions, samples, _ = values.shape
    known = ~np.isnan(values)
    high = np.where(known, values, -np.inf).max(axis=0)
    low = np.where(known, values, np.inf).min(axis=0)
    spread = np.where(known.sum(axis=0) > 1, high - low, 0.0)
    flat = values.reshape(versions * samples, -1)
    count = np.maximum((~np.isnan(flat)).sum(axis=0), 1)
    mean = np.nansum(flat, axis=0) / count
    scale = np.sqrt(np.nansum((flat - mean) ** 2, axis=0) / count)
    differing = spread.max(axis=0, initial=0.0) > 1e-9 * np.maximum(np.abs(mean), 1e-300)
    if not differing.any():
        return np.zeros(samples)
    return (spread[:, differing] / scale[differing]).mean(axis=1)


def shown_samples(
    compared: ComparedVersions, samples: Sequence[ComparedSample], most: int, device: str, progress: Progress
) -> tuple[list[ComparedSample], list[str]]:
    """Ask all versions about the first `most` samples that can be had again; the samples, and notes on what cannot."""
    if most < 1 or not samples:
        return list(samples), []
    try:
        progress("reading data", 0.0)
        data = data_again(compared)
    except ConceptryError as error:
        return list(samples), [f"samples are shown by their numbers alone: {error}"]
    items = dict(zip(sample_names([item.key for item in data.asked]), data.asked, strict=True))
    chosen = [sample for sample in samples if sample.name in items][:most]
    if not chosen:
        return list(samples), ["samples are shown by their numbers alone: no item of the data has their names"]
    explained: dict[str, Shown] = {}
    said: dict[str, dict[Key, Shown]] = {sample.name: {} for sample in chosen}
    notes = []
    presenter = presenter_of(compared.comparison.versions[0].method)
    for number, version in enumerate(compared.comparison.versions):
        progress(f"asking {version.uri}", number / len(compared.comparison.versions))
        try:
            with VersionProcess(version.uri, device) as predict:
                records = presenter.explain_items(data.through(predict), [items[sample.name] for sample in chosen])
        except ConceptryError as error:
            notes.append(f"what it says of samples is left out: {error}")
            continue
        for sample, record in zip(chosen, records, strict=True):
            what, says = presenter.shown(record)
            explained.setdefault(sample.name, what)
            said[sample.name][compared.comparison.key(version)] = says
    return [
        ComparedSample(
            sample.name,
            sample.disagreement,
            sample.metrics,
            _label(items[sample.name]) if sample.name in items else "",
            explained.get(sample.name),
            said.get(sample.name, {}),
        )
        for sample in samples
    ], notes


def data_again(compared: ComparedVersions) -> EvaluationData:
    """Load the data that the versions were measured on. Raises ConceptryError where it is not to be had, or changed."""
    for version in compared.comparison.versions:
        if record := compared.records.get(compared.comparison.key(version)):
            break
    else:
        raise InputError("no evaluation has left a record")
    evaluation, name = compared.evaluation, record["data"]
    # Former releases did not record how the data was drawn; the digest says whether it is the same.
    data = evaluation.load_data(
        name, evaluation.known_of(version), record.get("size", record["count"]), record.get("seed", 0)
    )
    if data.digest != record["digest"]:
        raise InputError(f"{name} is not what it was when the versions were measured on it; evaluate them again")
    return data


def _label(item: Any) -> str:
    return str(item.label or "")
