"""A comparison with its samples: the interval of each metric, paired differences, and who leads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from conceptry.evaluation.comparison.leaders import leaders
from conceptry.evaluation.harness import Evaluation, Metric, evaluation_of
from conceptry.evaluation.intervals import Difference, Interval, mean_intervals, paired_differences
from conceptry.evaluation.reports import SAMPLES, record_on, report_table
from conceptry.registry.comparison import Comparison
from conceptry.registry.versions import Version

Key = int | str
OTHER_REVISIONS = "the evaluations that measured them differ in what a metric means: evaluate all of them again"


@dataclass(frozen=True, eq=False)
class ComparedVersions:
    """A comparison, and the samples and records of the evaluations behind it, by `Comparison.key` of the version."""

    comparison: Comparison
    samples: Mapping[Key, pd.DataFrame] = field(default_factory=dict)
    records: Mapping[Key, dict[str, Any]] = field(default_factory=dict)
    _known: dict[tuple[Key, Key], dict[str, Difference]] = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, comparison: Comparison) -> "ComparedVersions":
        """Read what the evaluations on the shared data have left; there is nothing where none is shared."""
        samples, records = {}, {}
        data, digest = comparison.data, comparison.digest
        for version in comparison.versions if data and digest else ():
            assert data
            assert digest
            key = comparison.key(version)
            if comparison.scores[key] and (record := record_on(version, data, digest)) is not None:
                records[key] = record
                if (table := report_table(version, data, digest, SAMPLES)) is not None:
                    samples[key] = table
        return cls(comparison, samples, records)

    @property
    def evaluation(self) -> Evaluation:
        return evaluation_of(self.comparison.versions[0].method)

    def metric(self, name: str) -> Metric:
        """How the metric is read."""
        return self.evaluation.metric(name) or Metric(None, ".4g", "")

    def shown_metrics(self, everything: bool = False) -> list[str]:
        """Names of the headline metrics that there are, or of all metrics, those first."""
        found = self.comparison.metrics
        shown = [name for name in self.evaluation.headline if name in found]
        return shown + [name for name in found if name not in shown] if everything else shown

    @property
    def has_one_meaning(self) -> bool:
        """Whether one revision of the evaluation has measured all of them, so that a metric is the same of each."""
        return len({record["revision"] for record in self.records.values()}) < 2

    @cached_property
    def intervals(self) -> dict[Key, dict[str, Interval]]:
        """Intervals of the metrics that are means over samples."""
        return {key: mean_intervals(table) for key, table in self.samples.items()}

    def interval(self, version: Version, metric: str) -> Interval | None:
        """Interval of one metric of one version, None where there is none."""
        return self.intervals.get(self.comparison.key(version), {}).get(metric)

    def differences(self, one: Key, other: Key) -> dict[str, Difference]:
        """Paired difference of each metric that is a mean over samples, the first version less the second."""
        if one not in self.samples or other not in self.samples or not self.has_one_meaning:
            return {}
        if (other, one) in self._known:
            return {name: found.reversed for name, found in self._known[other, one].items()}
        if (one, other) not in self._known:
            self._known[one, other] = paired_differences(self.samples[one], self.samples[other])
        return self._known[one, other]

    def is_better(self, one: Key, other: Key, metric: str) -> bool:
        """Whether the first version is better than the second on a metric, beyond chance."""
        found = self.differences(one, other).get(metric)
        return (
            found is not None and found.beyond_chance and (found.mean > 0) == (self.metric(metric).better == "higher")
        )

    def leaders(self, metric: str) -> frozenset[Key]:
        """Who leads on a metric, see `leaders`."""
        values = {key: scores[metric] for key, scores in self.comparison.scores.items() if metric in scores}
        return leaders(values, self.metric(metric).better, lambda one, other: self.is_better(one, other, metric))
