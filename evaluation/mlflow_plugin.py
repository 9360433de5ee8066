"""Evaluation as an MLflow evaluator: `mlflow.models.evaluate(uri, data, evaluators=["conceptry"])`.

MLflow imports this module whenever it is imported itself, so everything else is imported when an evaluation starts.

`data` is a table of what the method explains. For splice: the column `image` (bytes, or paths of files) and any of
`label`, `caption` and `concepts` (words separated by ;). For harsanyi: the columns of the explained model. For
perturbation: the column `image` and any of `label`, `target` and `source` (classes). For milan: the columns `layer` and
`unit` of the registered network, and maybe `reference` (a text). A column named as `targets` is taken as the label.
"""

import logging
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
        import mlflow
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        from conceptry.evaluation.cells import csv_text
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
            params = _params_of(model)
            data = evaluation.table_data(dataset.features_data, dataset.labels_data, dataset.name, params)
            report = evaluation.evaluate(InProcess(model), data, lambda what, share: None)
        except ConceptryError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        for note in report.notes:
            logger.warning(note)
        mlflow.log_metrics(report.metrics, run_id=run_id, model_id=kwargs.get("model_id"))
        for stem, table in report.tables.items():
            MlflowClient().log_text(run_id, csv_text(table), f"evaluation/{stem}.csv")
        for stem, figure in report.figures.items():
            MlflowClient().log_figure(run_id, figure, f"evaluation/{stem}.png")
        return EvaluationResult(metrics=report.metrics, artifacts={})


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
