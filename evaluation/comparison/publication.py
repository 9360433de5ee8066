"""Make the page of a comparison, write it to a file, and log it to the runs of the versions that it compares."""

import re
from collections.abc import Sequence
from pathlib import Path

import mlflow

from conceptry.evaluation.comparison.compared import ComparedVersions
from conceptry.evaluation.comparison.page import PageParts, comparison_page
from conceptry.evaluation.comparison.samples import compared_samples, shown_samples
from conceptry.evaluation.drawing import html
from conceptry.evaluation.reports import log_page
from conceptry.models.errors import InputError
from conceptry.models.folders import writing
from conceptry.models.method import Progress
from conceptry.registry.comparison import Comparison
from conceptry.registry.descriptions import describe_compared
from conceptry.registry.promotion import promotions
from conceptry.registry.store import connect
from conceptry.registry.versions import Version, check_loggable

PAGE = "compare.html"


def make_page(compared: ComparedVersions, asked: int, device: str, progress: Progress) -> str:
    """The page of a comparison, for which the versions are asked about the `asked` samples that they differ on most."""
    samples, notes = shown_samples(compared, compared_samples(compared), asked, device, progress)
    versions = compared.comparison.versions
    history = {name: promotions(name) for name in dict.fromkeys(v.name for v in versions)}
    links = {}
    if server := server_address(mlflow.get_tracking_uri()):
        for version in versions:
            experiment = connect().get_run(version.run_id).info.experiment_id
            links[compared.comparison.key(version)] = f"{server}/#/experiments/{experiment}/runs/{version.run_id}"
    return comparison_page(compared, PageParts(samples, history, links, notes))


def server_address(uri: str) -> str:
    """Address of MLflow's pages, "" where the store has no server; without the name and the password in it.

    Pages are logged where others read them.
    """
    return re.sub(r"://[^/@]*@", "://", uri).rstrip("/") if uri.startswith(("http://", "https://")) else ""


def publish(comparison: Comparison, page: str, output: Path) -> list[str]:
    """Write the page to `output` and log it to each version's run; sentences on runs to which nothing can be logged.

    The descriptions of the versions, and of the registered models, link to it.
    """
    with writing(output):
        html.write(page, output)
    notes, logged = [], []
    for version in comparison.versions:
        try:
            check_loggable(version)
        except InputError as error:
            notes.append(str(error))
        else:
            logged.append(version)
    if logged:
        _log(comparison, logged, page)
    return notes


def _log(comparison: Comparison, versions: Sequence[Version], page: str) -> None:
    files = {log_page(version, comparison.data, comparison.digest, PAGE, page) for version in versions}
    (file,) = files  # the same of each: of one data set, or above all
    describe_compared(connect(), versions, file)
