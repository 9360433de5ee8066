"""Sums of two sides, each the answers of a batch or data that a version is asked about now."""

from collections.abc import Iterator, Sequence
from typing import Any

from conceptry.evaluation.drift.comparison import Rule, compare_sums
from conceptry.evaluation.drift.report import Drift
from conceptry.evaluation.drift.sums import READERS, is_batch, read_answers, read_batch
from conceptry.evaluation.harness import evaluation_of
from conceptry.evaluation.isolation.client import Predict, VersionProcess
from conceptry.models.errors import InputError
from conceptry.models.method import Progress
from conceptry.registry.versions import find_version


def find_drift(
    before: str,
    after: str,
    uri: str | None = None,
    rule: Rule | None = None,
    *,
    size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: Progress = lambda what, share: None,
) -> Drift:
    """Compare two data sets concept by concept.

    before, after: folders that `conceptry batch` has written, or, with the version `uri`, names of data that
    `conceptry evaluate` takes; `size` and `seed` limit such data. Raises InputError for what cannot be read or
    compared.
    """
    rule = rule or Rule()
    if uri is None:
        for each in (before, after):
            if not is_batch(each):
                raise InputError(
                    f"{each}: no such answers; expected a folder that `conceptry batch` has written, or with --version "
                    "the name of data that `conceptry evaluate` takes"
                )
        one, other = (
            read_batch(each, lambda share, each=each: progress(f"reading {each}", share)) for each in (before, after)
        )
        return Drift(one, other, compare_sums(one, other, rule), rule)
    version = find_version(uri)
    if version.method not in READERS:
        raise InputError(
            f"{version.uri}: answers of {version.method} name no concepts of a row; drift is of "
            f"{' and '.join(READERS)} versions"
        )
    evaluation = evaluation_of(version.method)
    progress("reading data", 0.0)
    known = evaluation.known_of(version)
    data = [evaluation.load_data(name, known, size, seed) for name in (before, after)]
    progress("loading the version", 0.0)
    name = f"{version.name}/{version.version}"
    with VersionProcess(version.uri, device) as predict:
        one, other = (
            read_answers(each.name, version.method, _answers(version.method, predict, each, k, progress), name)
            for k, each in enumerate(data)
        )
    return Drift(one, other, compare_sums(one, other, rule), rule)


def _answers(method: str, predict: Predict, data: Any, side: int, progress: Progress) -> Iterator[Sequence[dict]]:
    """The concepts of each item of the data."""

    def tell(share: float) -> None:
        progress(f"explaining {data.name}", (side + share) / 2)

    if method == "splice":
        from conceptry.evaluation.splice.client import answers

        for rows in answers(data.through(predict), "image", data.images, progress=tell):
            yield from rows["concepts"]
    else:
        from conceptry.evaluation.harsanyi.client import explain_samples

        for explained in explain_samples(predict, data.samples, tell):
            yield explained.answer["patterns"]
