"""What `conceptry promote --require` takes: a bound on a metric, or to be better than the version before.

`better:METRIC` holds where the paired difference on the same samples, in the direction of the metric, is beyond chance.
"""

import re
from dataclasses import dataclass

from conceptry.evaluation.comparison.compared import OTHER_REVISIONS, ComparedVersions
from conceptry.evaluation.harness import Metric, evaluation_of
from conceptry.models.errors import ConceptryError, InputError
from conceptry.registry.comparison import on_data
from conceptry.registry.promotion import Requirement, Rule
from conceptry.registry.versions import Measured, Version

_BETTER = re.compile(r"\s*better\s*:\s*([\w./-]+)\s*")


@dataclass(frozen=True)
class Better:
    """To be better on a metric than the version that the alias points to, beyond chance; the first one passes."""

    metric: str

    def check(self, version: Version, measured: Measured | None, former: Version | None) -> str:
        """Return the rule with the difference; raise ConceptryError unless the version is better beyond chance."""
        read = self._read(version, measured)
        assert measured is not None
        if former is None:
            return f"{self}, the first, with none before to be better than"
        if former.version == version.version:
            return str(self)
        assert measured.digest is not None
        if self.metric not in former.metrics_on(measured.digest):
            raise ConceptryError(
                f"{version.uri} is not promoted: {former.uri}, which it must be better than, has no {self.metric} on "
                f"{measured.data}; run conceptry evaluate {former.name}/{former.version} --data {measured.data} "
                "with the same size and seed, or name shared data by --data"
            )
        compared = ComparedVersions.read(on_data((version, former), measured.data, measured.digest))
        if not compared.has_one_meaning:
            raise ConceptryError(f"{version.uri} and {former.uri} cannot be told apart: {OTHER_REVISIONS}")
        found = compared.differences(version.version, former.version).get(self.metric)
        if found is None:
            raise ConceptryError(
                f"{self.metric} is no mean over samples that {version.uri} and {former.uri} share, so nothing says "
                f"what is beyond chance; require a bound, as {self.metric}{'>' if read.better == 'higher' else '<'}"
                f"{former.metrics_on(measured.digest)[self.metric]:.6g}"
            )
        said = f"{found.mean:+.4g} [{found.low:+.4g}, {found.high:+.4g}] over {found.count} samples"
        if not compared.is_better(version.version, former.version, self.metric):
            raise ConceptryError(
                f"{version.uri} is not promoted: it is not better than {former.uri} in {self.metric} ({read.better} is "
                f"better) beyond chance; the paired difference is {said}"
            )
        return f"{self} than version {former.version} by {said}"

    def _read(self, version: Version, measured: Measured | None) -> Metric:
        known = measured.metrics if measured else {}
        if measured is None or measured.digest is None or self.metric not in known:
            on = f" on {measured.data}" if measured and measured.data else ""
            has = ", ".join(sorted(known)) or "none; run conceptry evaluate first"
            raise ConceptryError(f"{version.uri} has no metric {self.metric!r}{on}; it has {has}")
        read = evaluation_of(version.method).metric(self.metric)
        if read is None or read.better is None:
            raise ConceptryError(f"{self.metric} has no direction, so no version is better in it; require a bound")
        return read

    def __str__(self) -> str:
        return f"better:{self.metric}"


def parse_requirement(text: str) -> Rule:
    """Read `better:METRIC`, or `METRIC>=NUMBER` (or <=, >, <); raises InputError for anything else."""
    if match := _BETTER.fullmatch(text):
        return Better(match[1])
    try:
        return Requirement.parse(text)
    except InputError:
        raise InputError(f"expected METRIC>=NUMBER (or <=, >, <) or better:METRIC, got {text!r}") from None
