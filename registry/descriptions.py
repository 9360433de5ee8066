"""Descriptions in Markdown, which MLflow's pages show: of a registered model, its versions, their runs and models."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from conceptry.models.errors import visible
from conceptry.models.method import Package, load_options
from conceptry.registry.versions import Version

LONGEST = 5000  # letters that MLflow's database keeps of a version's description
_LONG_VALUE = 60
# What was measured stands first, where the lists of MLflow show it, and is replaced by the next evaluation.
_MEASURED = re.compile(r"\A[^\n]* measured on [^\n]* \(↑ higher, ↓ lower is better\)\n*")
# What links to a comparison comes after it, and is replaced by the next comparison.
_COMPARED = re.compile(r"^Side by side with [^\n]*\n*", re.MULTILINE)
_ALL_COMPARED = re.compile(r"\n*^Compared last: [^\n]*$", re.MULTILINE)
_FILES = {"image": " picture.png", "layer": "", "points": " cloud.npy", "text": " texts.csv"}


def describe_version(client: MlflowClient, version: Version, package: Package, description: str | None) -> None:
    """Describe a new version, its run and its logged model, and the registered model where nobody has."""
    text = "\n\n".join(filter(None, (description, _about(version, package))))
    _write(client, version, text)
    if not client.get_registered_model(version.name).description:
        client.update_registered_model(version.name, _about_all(version))


def describe_measured(client: MlflowClient, version: Version, scores: str, data: str) -> None:
    """Put headline metrics in front of the descriptions of a version, its run and its logged model.

    scores: metrics with their directions; data: what they were measured on.
    """
    known = client.get_model_version(version.name, str(version.version)).description or ""
    head = f"{_plain(scores)} measured on {_plain(data)} (↑ higher, ↓ lower is better)"
    _write(client, version, f"{head}\n\n{_MEASURED.sub('', known)}".rstrip())


def describe_compared(client: MlflowClient, versions: Sequence[Version], file: str) -> None:
    """Have the descriptions of versions, and of their registered models, link to the page that compares them.

    file: where the page lies among the artifacts of each version's run.
    """
    uris = [f"{version.name}/{version.version}" for version in versions]
    for version in versions:
        page = _address(client, version, file)
        others = ", ".join(uri for uri in uris if uri != f"{version.name}/{version.version}")
        known = client.get_model_version(version.name, str(version.version)).description or ""
        head = found[0] if (found := _MEASURED.match(known)) else ""
        rest = _COMPARED.sub("", known[len(head) :])
        line = f"Side by side with {others or 'no other'}: [the page]({page})"
        _write(client, version, "\n\n".join(filter(None, (head.strip(), line, rest.strip()))))
    for name in dict.fromkeys(version.name for version in versions):
        page = _address(client, next(v for v in reversed(versions) if v.name == name), file)
        known = client.get_registered_model(name).description or ""
        line = f"Compared last: [{', '.join(uris)}]({page})"
        client.update_registered_model(name, f"{_ALL_COMPARED.sub('', known)}\n\n{line}".strip()[:LONGEST])


def _address(client: MlflowClient, version: Version, file: str) -> str:
    """Where MLflow's UI shows an artifact of the version's run, from any of its pages."""
    experiment = client.get_run(version.run_id).info.experiment_id
    return f"#/experiments/{experiment}/runs/{version.run_id}/artifacts/{quote(file)}"


def _write(client: MlflowClient, version: Version, text: str) -> None:
    text = text[:LONGEST]
    client.update_model_version(version.name, str(version.version), text)
    client.set_tag(version.run_id, MLFLOW_RUN_NOTE, text)
    client.set_logged_model_tags(version.model_id, {MLFLOW_RUN_NOTE: text})


def _about(version: Version, package: Package) -> str:
    explained = _explained(version.recorded.lineage)
    of = f" of {_code(explained)}" if explained else ""
    file = next((file for column, file in _FILES.items() if column in package.example), " rows.csv")
    uri = f"{version.name}/{version.version}"
    lines = [
        f"{_does(version.method)} `{uri}` is a **{version.method}** explainer{of}.",
        f"Hyperparameters: {_settings(package.params)}",
        f"Explain something: `conceptry explain {uri}{file}`",
        *(f"Note: {_plain(note)}" for note in package.notes),
    ]
    return "\n\n".join(lines)


def _about_all(version: Version) -> str:
    name = version.name
    return (
        f"{_does(version.method)} Each version is a **{version.method}** explainer; its description has its scores and "
        "hyperparameters, and its run the tables and figures of its evaluations.\n\n"
        f"Side by side: `conceptry compare {name}`, or tick versions here and press *Compare*. "
        f"Choose one: `conceptry promote {name} NUMBER`, then use it as `models:/{name}@champion`."
    )


def _does(method: str) -> str:
    """What a method does, as its help says it."""
    said = load_options(method)[1].partition(": ")[2]
    return said[:1].upper() + said[1:]


def _explained(lineage: Mapping[str, str]) -> str | None:
    return lineage.get("explained_model") or lineage.get("encoder")


def _settings(params: Mapping[str, object]) -> str:
    short = {name: text for name, value in params.items() if len(text := str(value)) <= _LONG_VALUE}
    return ", ".join(_code(f"{name}={text}") for name, text in short.items())


def _code(text: str) -> str:
    """A name as code, where nothing else is markup."""
    return f"`{visible(' '.join(text.split())).replace('`', chr(39))}`"


def _plain(text: str) -> str:
    """Text as one line, in which names are no markup."""
    return re.sub(r"([*<>\[\]`])", r"\\\1", visible(" ".join(text.split())))
