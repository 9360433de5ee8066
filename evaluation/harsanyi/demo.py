"""Harsanyi interactions in the demo: models that tell wines apart, and boosted trees over 30 and 64 columns.

One model of wines is the zoo's network; the forest and the boosted trees, of scikit-learn, are logged to MLflow first,
as users have theirs. What trees say exactly of the 30 columns of tumours stands beside what a budget of subsets finds.
The 64 columns are the pixels of handwritten digits, of which a class has a few that it uses together.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from conceptry.evaluation.demo import Tour
from conceptry.evaluation.harsanyi.data import SampleData, load_samples, table_samples
from conceptry.models.explained.loaders.sklearn import TRUSTED
from conceptry.models.zoo.datasets import Dataset, load_dataset
from conceptry.registry import Requirement, connect
from conceptry.registry.store import ensure_experiment

SAMPLES = 8
BUDGET = 1024  # subsets that the sampled version asks
MAX_ERROR, MAX_RESIDUAL = 0.02, 1e-6
SHOWN = 2


def _wine_versions(output: Path) -> Sequence[Mapping[str, Any]]:
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(50, min_samples_leaf=5, random_state=0)
    return (
        {"model": "zoo:wine"},
        {"model": "zoo:wine", "baseline": "median"},
        {"model": "zoo:wine", "baseline": "learned"},
        {"model": "zoo:wine", "interactions": "and-or"},
        _logged("wine-forest", forest, load_dataset("wine"), output) | {"reward": "probability"},
    )


def _tumour_versions(output: Path) -> Sequence[Mapping[str, Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosted = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    model = _logged("tumour-booster", boosted, load_dataset("breast-cancer"), output)
    return model, model | {"engine": "sampled", "budget": BUDGET}


def _digit_versions(output: Path) -> Sequence[Mapping[str, Any]]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    boosted = HistGradientBoostingClassifier(max_iter=30, max_leaf_nodes=8, random_state=0)
    model = _logged("digit-booster", boosted, _digits(), output)
    return (model | {"outputs": "logits", "reward": "logit"},)


def _digits() -> Dataset:
    """The zoo's digits of 8 x 8 pixels as a table, a column for each pixel."""
    from sklearn.datasets import load_digits

    pixels: Any = load_digits(as_frame=True)
    return replace(load_dataset("digits"), modality="table", inputs=pixels.data)


def _logged(name: str, estimator: Any, data: Dataset, output: Path) -> dict[str, Any]:
    """An estimator fitted to the training rows of a data set and logged once, as options: where it and they are."""
    import mlflow
    from mlflow.sklearn import log_model

    rows = data.inputs.iloc[data.train]
    background = output / f"{name}-background.csv"
    rows.to_csv(background, index=False)
    options = {"model": f"models:/{name}/1", "statistics": str(background)}
    client = connect()
    if client.search_model_versions(f"name = '{name}'"):
        return options
    fitted = estimator.fit(rows, [data.classes[int(k)] for k in data.targets[data.train]])
    experiment = ensure_experiment(client, "conceptry/demo")
    run = client.create_run(experiment.experiment_id, run_name=name)
    # MLflow says on standard error what the demo says in its own words.
    with redirect_stderr(StringIO()), mlflow.start_run(run.info.run_id):
        log_model(
            fitted,
            name=name,
            registered_model_name=name,
            input_example=rows.head(2),
            skops_trusted_types=list(TRUSTED),  # no pickle, but MLflow asks for a word on trees
            pip_requirements=["scikit-learn", "skops"],  # MLflow would load the model in a process of its own to see
        )
    return options


def _data(dataset: str) -> Callable[[int], SampleData]:
    zoo = f"zoo:{dataset}"
    return lambda size: load_samples(zoo, {"model": zoo, "modality": "table"}, min(size, SAMPLES), seed=0)


def _digit_data(size: int) -> SampleData:
    data = _digits()
    rows = data.heldout[: min(size, SAMPLES)]
    return table_samples(data.inputs.iloc[rows], [data.classes[k] for k in data.targets[rows]], "scikit-learn's digits")


def _rank(metrics: Mapping[str, float]) -> tuple[float, ...]:
    return -metrics["salient"], -metrics["seconds"]


def _rows(data: Callable[[], Dataset], name: str) -> Callable[[Path], list[Path]]:
    def write(output: Path) -> list[Path]:
        held = data()
        file = output / name
        held.inputs.iloc[held.heldout[:SHOWN]].to_csv(file, index=False)
        return [file]

    return write


def _request(table: Path) -> str:
    rows = json.loads(str(pd.read_csv(table, nrows=1).to_json(orient="records")))
    file = table.with_name(f"{table.stem.removesuffix('s')}-request.json")
    file.write_text(json.dumps({"dataframe_records": rows}) + "\n", encoding="utf-8")
    return f"cat {shlex.quote(str(file))}"


TOURS = (
    Tour(
        method="harsanyi",
        name="wine-harsanyi",
        prepare=_wine_versions,
        data=_data("wine"),
        requirement=Requirement("square_error", "<=", MAX_ERROR),
        rank=_rank,
        rule=f"fewest salient patterns among versions with square_error <= {MAX_ERROR:g}; ties: the faster",
        samples=_rows(partial(load_dataset, "wine"), "wines.csv"),
        figures=[("wine.png", "graph"), ("wine-patterns.png", "explanation"), ("wine.html", None)],
        request=_request,
    ),
    Tour(
        method="harsanyi",
        name="tumour-harsanyi",
        prepare=_tumour_versions,
        data=_data("breast-cancer"),
        requirement=Requirement("residual_max", "<=", MAX_RESIDUAL),
        rank=_rank,
        rule=f"fewest salient patterns among versions with residual_max <= {MAX_RESIDUAL:g}; ties: the faster",
        samples=_rows(partial(load_dataset, "breast-cancer"), "tumours.csv"),
        figures=[("tumour.png", "graph"), ("tumour-patterns.png", "explanation")],
        request=_request,
    ),
    Tour(
        method="harsanyi",
        name="digits-harsanyi",
        prepare=_digit_versions,
        data=_digit_data,
        requirement=Requirement("residual_max", "<=", MAX_RESIDUAL),
        rank=_rank,
        rule=f"fewest salient patterns among versions with residual_max <= {MAX_RESIDUAL:g}; ties: the faster",
        samples=_rows(_digits, "pixels.csv"),
        figures=[("pixels.png", "graph"), ("pixels-patterns.png", "explanation")],
        request=_request,
    ),
)
