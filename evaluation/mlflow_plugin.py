"""Evaluation as an MLflow evaluator: `mlflow.models.evaluate(uri, data, evaluators=["conceptry"])`.

MLflow imports this module whenever it is imported itself, so everything else is imported when an evaluation starts.

`data` is a table of what the method explains. For splice: the column `image` (bytes, or paths of files) and any of
`label`, `caption` and `concepts` (words separated by ;). For harsanyi: the columns of the explained model. For
perturbation: the column `image` and any of `label`, `target` and `source` (classes). For milan: the columns `layer` and
`unit` of the registered network, and maybe `reference` (a text). A column named as `targets` is taken as the label.

`evaluator_config={"conceptry": {"groups": ["basic"]}}`, or `"all"`, chooses groups of metrics. `extra_metrics` are
computed on the answers of the model: a parameter of an `eval_fn` is `predictions` (the table of answers), `targets`
(the labels), `metrics` (those measured so far), or the name of a column of the answers or of the data.

| in the result, and where it is logged | |
|---|---|
| `metrics` | to the run, to the logged model, and to the run of the registered version, if there is one |
| `artifacts`: a table as CSV, a figure as PNG, by the name of its file | to `evaluation` of the run |
| the same, as `conceptry evaluate` logs it, for `conceptry compare` | to the run of the registered version |
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow.models.evaluation.base import EvaluationResult, ModelEvaluator

logger = logging.getLogger(__name__)


class ConceptryEvaluator(ModelEvaluator):
    """Evaluates explainers as `conceptry evaluate` does, by the method that they were registered with."""

    @classmethod
    def can_evaluate(cls, *, model_type: str | None, evaluator_config: dict[str, Any], **kwargs: Any) -> bool:
        """Any model type: what counts is the method recorded in the model, which `evaluate` looks up."""
        return True

    def evaluate(  # pyright: ignore[reportIncompatibleMethodOverride]  # the base says nothing of what it returns
        self, *, model_type, dataset, run_id, evaluator_config=None, model=None, **kwargs
    ) -> EvaluationResult:
        """Measure a loaded explainer on a table; metrics go to the active run and to the logged model."""
        from mlflow.exceptions import MlflowException

        from conceptry.evaluation.harness import evaluation_of
        from conceptry.evaluation.isolation.client import InProcess
        from conceptry.models.errors import ConceptryError

        try:
            method = _method_of(model)
            if method is None:
                # MLflow asks every installed evaluator where the user names none: leave other models alone.
                logger.info("the conceptry evaluator leaves this model alone: conceptry did not register it")
                return EvaluationResult(metrics={}, artifacts={})
            evaluation = evaluation_of(method)
            groups = _groups(evaluation.groups, evaluator_config or {})
            params = _params_of(model)
            data = evaluation.table_data(dataset.features_data, dataset.labels_data, dataset.name, params)
            report = evaluation.evaluate(InProcess(model), data, lambda what, share: None, groups)
            report.metrics |= _extra(kwargs.get("extra_metrics") or (), model, dataset, report.metrics)
        except ConceptryError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        if kwargs.get("custom_artifacts"):
            report.notes.append("custom_artifacts are left out: conceptry has figures and tables of its own")
        for note in report.notes:
            logger.warning(note)
        # On the logged model metrics stand once: with the data set of the version where there is one.
        is_version = _log_to_version(model, evaluation, data, report, evaluation.chosen(groups))
        artifacts = _log_to_run(report, run_id, None if is_version else kwargs.get("model_id"))
        return EvaluationResult(metrics=report.metrics, artifacts=artifacts)


def _groups(known: Mapping[str, Any], config: Mapping[str, Any]) -> Sequence[str] | None:
    """Groups of metrics by `evaluator_config`. Raises InputError for other keys; names are checked by the harness."""
    from conceptry.models.errors import InputError

    if unknown := [key for key in config if key != "groups"]:
        expected = ", ".join((*known, "all"))
        raise InputError(f"evaluator_config has {unknown[0]!r}; the conceptry evaluator takes groups: {expected}")
    groups = config.get("groups")
    if groups == "all":
        return list(known)
    return [groups] if isinstance(groups, str) else groups


def _extra(metrics: Sequence[Any], model: Any, dataset: Any, measured: Mapping[str, float]) -> dict[str, float]:
    """What `extra_metrics` come to, by name. Raises InputError for an argument that there is not."""
    from mlflow.metrics import MetricValue

    if not metrics:
        return {}
    answers, data = model.predict(dataset.features_data), dataset.features_data
    found: dict[str, float] = {}
    for metric in metrics:
        known = {name: MetricValue(aggregate_results={name: value}) for name, value in {**measured, **found}.items()}
        given = {"predictions": answers, "targets": dataset.labels_data, "metrics": known}
        given |= {name: data[name] for name in data.columns if name not in given}
        given |= {name: answers[name] for name in answers.columns if name not in ("predictions", "targets", "metrics")}
        value = metric.eval_fn(**_arguments(metric.name, metric.eval_fn, given))
        if value is None:
            logger.warning("%s is left out: its eval_fn returned None", metric.name)
        elif isinstance(value, MetricValue):
            for part, number in (value.aggregate_results or {}).items():
                found[metric.name if part == metric.name else f"{metric.name}/{part}"] = float(number)
        else:
            found[metric.name] = float(value)
    return found


def _arguments(name: str, function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    from conceptry.models.errors import InputError

    chosen = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in given and parameter.kind is not parameter.VAR_KEYWORD:
            chosen[parameter.name] = given[parameter.name]
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ):
            raise InputError(
                f"extra_metrics: {name} asks for {parameter.name!r}; expected parameters among {', '.join(given)}"
            )
    return chosen


def _log_to_run(report: Any, run_id: str, model_id: str | None) -> dict[str, Any]:
    """Log to MLflow's run; what was logged as artifacts of MLflow, by the names of their files."""
    import io

    import mlflow
    from mlflow import MlflowClient
    from mlflow.models.evaluation.artifacts import CsvEvaluationArtifact, ImageEvaluationArtifact
    from PIL import Image

    from conceptry.evaluation.cells import csv_text
    from conceptry.evaluation.reports import ARTIFACTS, SAMPLES

    client = MlflowClient()
    mlflow.log_metrics(report.metrics, run_id=run_id, model_id=model_id)
    artifacts: dict[str, Any] = {}
    for stem, table in (*report.tables.items(), *([] if report.samples.empty else [(SAMPLES, report.samples)])):
        client.log_text(run_id, csv_text(table), f"{ARTIFACTS}/{stem}.csv")
        artifacts[stem] = CsvEvaluationArtifact(f"runs:/{run_id}/{ARTIFACTS}/{stem}.csv", table)
    for stem, figure in report.figures.items():
        client.log_figure(run_id, figure, f"{ARTIFACTS}/{stem}.png")
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
        name = f"{stem}.png" if stem in artifacts else stem
        artifacts[name] = ImageEvaluationArtifact(f"runs:/{run_id}/{ARTIFACTS}/{stem}.png", Image.open(stream))
    return artifacts


def _log_to_version(model: Any, evaluation: Any, data: Any, report: Any, groups: Sequence[str]) -> bool:
    """Log as `conceptry evaluate` does to the registered version that the model is; whether it is one."""
    from conceptry.evaluation.reports import log_report
    from conceptry.models.errors import InputError
    from conceptry.registry.versions import check_loggable, version_of_model

    version = version_of_model(model.model_id) if model.model_id else None
    if version is None or not report.metrics:
        return False
    try:
        check_loggable(version)
    except InputError as error:
        logger.warning("nothing is logged to the version: %s", error)
        return False
    headlines = evaluation.headlines(report.metrics)
    log_report(version, data, report, groups, revision=evaluation.revision, headlines=headlines)
    return True


def _method_of(model: Any) -> str | None:
    from conceptry.models.method import METHODS
    from conceptry.registry.tags import METHOD

    if model is None or getattr(model, "metadata", None) is None:
        return None

    method = (model.metadata.metadata or {}).get(METHOD)
    return method if method in METHODS else None


def _params_of(model: Any) -> dict[str, str]:
    """The hyperparameters, none where the store does not know the model: it was copied from another one."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return MlflowClient().get_logged_model(model.model_id).params if model.model_id else {}
    except MlflowException:
        return {}
