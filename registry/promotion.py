"""Give an alias to a version that meets stated requirements, and keep the history that MLflow does not."""

import getpass
import json
import math
import operator
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Protocol

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel

from conceptry.models.errors import ConceptryError, InputError
from conceptry.registry import tags as t
from conceptry.registry.store import connect, name_lock
from conceptry.registry.versions import Measured, Version, find_version

_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_PLANNED = "planned"  # in a record until its alias is moved
_REQUIREMENT = re.compile(r"^\s*([\w./-]+)\s*(>=|<=|>|<)\s*(\S+)\s*$")


class Rule(Protocol):
    """What a version must meet to be promoted."""

    def check(self, version: Version, measured: Measured | None, former: Version | None) -> str:
        """Return the rule as it is met, for the record; raise ConceptryError where it is not.

        measured: on the data to judge by; former: the version that the alias points to, None without one.
        """
        ...


@dataclass(frozen=True)
class Requirement:
    """A bound on a metric, as `cosine>=0.6`."""

    metric: str
    comparison: str
    bound: float

    @classmethod
    def parse(cls, text: str) -> "Requirement":
        """Read `METRIC>=NUMBER` (or <=, >, <); raises InputError for anything else."""
        match = _REQUIREMENT.match(text)
        try:
            if not match:
                raise ValueError
            bound = float(match[3])
            if math.isnan(bound):
                raise ValueError
            return cls(match[1], match[2], bound)
        except ValueError:
            raise InputError(
                f"expected METRIC>=NUMBER, METRIC<=NUMBER, METRIC>NUMBER or METRIC<NUMBER, got {text!r}"
            ) from None

    def holds(self, metrics: Mapping[str, float]) -> bool:
        """Whether the metric is there and within the bound (NaN never is)."""
        return self.metric in metrics and _OPERATORS[self.comparison](metrics[self.metric], self.bound)

    def check(self, version: Version, measured: Measured | None, former: Version | None = None) -> str:
        """Return the rule as it is met; raise ConceptryError unless the metric is within the bound (NaN never is)."""
        metrics = measured.metrics if measured else {}
        value = metrics.get(self.metric)
        if value is None:
            known = ", ".join(sorted(metrics)) or "none; run conceptry evaluate first"
            on = f" on {measured.data}" if measured and measured.data else ""
            raise ConceptryError(f"{version.uri} has no metric {self.metric!r}{on}; it has {known}")
        if not self.holds(metrics):
            raise ConceptryError(f"{version.uri} is not promoted: {self} is required, its {self.metric} is {value:.6g}")
        return str(self)

    def __str__(self) -> str:
        return f"{self.metric}{self.comparison}{self.bound:g}"


@dataclass(frozen=True)
class Promotion:
    """Who gave which alias to which version, when, from which version, by which rule, measured on which data."""

    alias: str
    version: int
    previous: int | None
    rule: str
    data: str | None
    by: str
    at: str


def promote(
    name: str,
    version: int,
    alias: str = "champion",
    require: Sequence[Rule] = (),
    rule: str | None = None,
    data: str | None = None,
) -> Promotion | None:
    """Point `alias` of the model `name` at `version` if it meets every requirement, and record it.

    Args:
        name: of the registered model.
        version: its number.
        alias: a letter followed by letters, digits, "_" or "-".
        require: bounds on metrics (`Requirement`), or other rules of that form, checked before anything is stored.
        rule: how the version was chosen, in words; the requirements by default.
        data: name or digest of the data set to judge by; the one measured last by default.

    Returns:
        What was recorded; None where the alias points there already, and nothing is added then.

    Raises:
        InputError: for an alias of another form, and a version that is not there.
        ConceptryError: where a requirement is not met, or the version was not measured on `data`.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", alias) or re.fullmatch(r"v\d+", alias, re.IGNORECASE):
        raise InputError(
            f"an alias is a letter followed by letters, digits, '_' or '-', and not v1, v2, ...; got {alias!r}"
        )
    client = connect()
    with name_lock(name):
        found = find_version(f"models:/{name}/{version}")
        settle_plans(client, name)
        measured = found.measured_on(data) if data else found.latest
        if data and measured is None:
            known = ", ".join(dict.fromkeys(str(m.data) for m in found.measured)) or "nothing yet"
            raise ConceptryError(f"{found.uri} was not measured on {data}; it was on {known}")
        aliases = client.get_registered_model(name).aliases
        previous = int(aliases[alias]) if alias in aliases else None
        former = None if previous is None else find_version(f"models:/{name}/{previous}")
        met = [requirement.check(found, measured, former) for requirement in require]
        if previous == version:
            return None
        stated = rule or ", ".join(met) or "by hand"
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        promotion = Promotion(alias, version, previous, stated, measured.data if measured else None, _user(), now)
        # The record comes first: an alias without one would be a promotion that nobody can account for. Until the alias
        # is moved it is a plan, which counts for nothing where the process ends in between.
        key, record = f"{t.PROMOTION}{now}", asdict(promotion)
        client.set_registered_model_tag(name, key, json.dumps(record | {_PLANNED: True}))
        client.set_registered_model_alias(name, alias, str(version))
        client.set_registered_model_tag(name, key, json.dumps(record))
        _show_rule(client, promotion, name)
    return promotion


def _show_rule(client: MlflowClient, promotion: Promotion, name: str) -> None:
    """Have the version, and no other, say by a tag how it was chosen."""
    tag = f"{t.RULE}{promotion.alias}"
    client.set_model_version_tag(name, str(promotion.version), tag, promotion.rule)
    for other in client.search_model_versions(f"name = '{name}'"):
        if tag in other.tags and int(other.version) != promotion.version:
            client.delete_model_version_tag(name, other.version, tag)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container whose user has no name
        return f"uid {os.getuid()}"


def promotions(name: str) -> list[Promotion]:
    """The recorded promotions of a registered model, oldest first."""
    model = connect().get_registered_model(name)
    records = t.read_family(model.tags, t.PROMOTION)
    dropped = {at for at, was_done in plans(model).items() if not was_done}
    return [_read(record) for at, record in records.items() if at not in dropped]


def plans(model: RegisteredModel) -> dict[str, bool]:
    """Promotions that were never said to be done, by time: whether the alias was moved before their process ended."""
    records = {at: json.loads(text) for at, text in t.read_family(model.tags, t.PROMOTION).items()}
    found: dict[str, bool] = {}
    for at, record in records.items():
        if _PLANNED in record:
            after = (each for time, each in records.items() if time > at)
            later = [each["previous"] for each in after if each["alias"] == record["alias"]]
            now = later[0] if later else model.aliases.get(record["alias"])
            found[at] = now is not None and int(now) == record["version"]
    return found


def settle_plans(client: MlflowClient, name: str) -> None:
    """Keep the record of what was promoted by a process that ended just then, and remove that of what was not.

    For the holder of the name's lock, since there nobody is in the middle of it.
    """
    model = client.get_registered_model(name)
    for at, was_done in plans(model).items():
        if was_done:
            record = _read(model.tags[f"{t.PROMOTION}{at}"])
            client.set_registered_model_tag(name, f"{t.PROMOTION}{at}", json.dumps(asdict(record)))
        else:
            client.delete_registered_model_tag(name, f"{t.PROMOTION}{at}")


def _read(record: str) -> Promotion:
    return Promotion(**{key: value for key, value in json.loads(record).items() if key != _PLANNED})
