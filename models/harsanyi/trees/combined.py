"""Estimators made of others: pipelines, averages of estimators, and searches that end in one."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn import ensemble, model_selection, pipeline

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.trees.ensemble import Ensemble
from conceptry.models.harsanyi.trees.model import PROBABILITY, VALUE, TreeModel, dense, outputs_of, the_output
from conceptry.models.harsanyi.trees.pipelines import feature_owners
from conceptry.models.harsanyi.trees.sklearn import classes_of, columns_of, giver

Read = Callable[[Any, str | None], TreeModel]


def combined_reader_of(estimator: Any) -> Callable[[Any, str | None, Read], TreeModel] | None:
    """The reader of an estimator that is made of others, which `read` reads; None where it is none."""
    if isinstance(estimator, pipeline.Pipeline):
        return _read_pipeline
    if isinstance(estimator, (ensemble.BaggingClassifier, ensemble.BaggingRegressor)):
        return _read_bagging
    if isinstance(estimator, (ensemble.VotingClassifier, ensemble.VotingRegressor)):
        return _read_voting
    if isinstance(estimator, (model_selection.GridSearchCV, model_selection.RandomizedSearchCV)):
        return lambda search, output, read: read(search.best_estimator_, output)
    return None


def parts_of(estimator: Any) -> list[Any]:
    """The fitted estimators whose answers a combined one gives, or averages; none of any other estimator."""
    if isinstance(estimator, pipeline.Pipeline):
        return [estimator.steps[-1][1]]
    if isinstance(estimator, (model_selection.GridSearchCV, model_selection.RandomizedSearchCV)):
        return [estimator.best_estimator_]
    return list(estimator.estimators_) if combined_reader_of(estimator) else []


def _read_pipeline(estimator: pipeline.Pipeline, output: str | None, read: Read) -> TreeModel:
    inner = read(estimator.steps[-1][1], output)
    before = estimator[:-1]
    steps = [step for _, step in estimator.steps if step is not None and not isinstance(step, str)]
    columns, named = columns_of(steps[0])
    return dataclasses.replace(
        inner,
        kind=f"a Pipeline that ends in {inner.kind}",
        columns=columns,
        named=named,
        given=giver(named) if len(steps) > 1 else inner.given,
        encode=lambda x: inner.encode(before.transform(x)),
        feature_owners=lambda owner: inner.feature_owners(feature_owners(before, owner, len(inner.columns))),
        predict=lambda x: inner.predict(before.transform(x)),
    )


def _read_bagging(estimator: Any, output: str | None, read: Read) -> TreeModel:
    parts = [read(part, None) for part in estimator.estimators_]
    chosen = [np.asarray(of) for of in estimator.estimators_features_]
    # The parts are fitted to arrays, and to numbers of classes.
    return _average(estimator, output, parts, [1.0] * len(parts), chosen, lambda x, of: dense(x)[:, of])


def _read_voting(estimator: Any, output: str | None, read: Read) -> TreeModel:
    if getattr(estimator, "voting", "soft") != "soft":
        raise InputError(
            "VotingClassifier counts votes (voting='hard'), which are not sums over trees; set voting='soft', or use "
            "the sampled engine"
        )
    parts = [read(part, None) for part in estimator.estimators_]
    weights = estimator._weights_not_none or [1.0] * len(parts)
    every = np.arange(len(columns_of(estimator)[0]))
    return _average(estimator, output, parts, weights, [every] * len(parts), lambda x, of: x)


def _average(
    estimator: Any,
    output: str | None,
    parts: Sequence[TreeModel],
    weights: Sequence[float],
    chosen: Sequence[np.ndarray],
    given: Callable[[Any, np.ndarray], Any],
) -> TreeModel:
    """The mean of estimators of some columns each, whose classes are numbers of the classes of the mean.

    given: samples and numbers of columns -> what a part takes.
    """
    kind, classes = type(estimator).__name__, classes_of(estimator)
    output = the_output(kind, output, VALUE if classes is None else PROBABILITY)
    for part in parts:
        if part.output != output:
            raise InputError(
                f"{kind} averages the {output} of {part.kind}, which is not a sum over its trees; expected estimators "
                "whose trees say it themselves, such as forests, or use the sampled engine"
            )
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    columns, named = columns_of(estimator)

    def of_output(k: int) -> Ensemble:
        ensembles = []
        for part, share in zip(parts, shares, strict=True):
            known = part.classes is None or k in part.classes  # a part may have seen no sample of a class
            place = k if part.classes is None or not known else part.classes.index(k)
            ensembles.append(part.ensemble(place if known else 0).scaled(share if known else 0.0))
        return Ensemble.joined(ensembles)

    return TreeModel(
        kind,
        columns,
        named,
        classes,
        output,
        1 if classes is None else len(classes),
        max(part.tolerance for part in parts),
        of_output,
        giver(named),
        lambda x: np.concatenate([part.encode(given(x, of)) for part, of in zip(parts, chosen, strict=True)], axis=1),
        lambda owner: np.concatenate([part.feature_owners(owner[of]) for part, of in zip(parts, chosen, strict=True)]),
        lambda x: outputs_of(estimator.predict(x) if classes is None else estimator.predict_proba(x)),
    )
