"""Harsanyi interactions in the demo: two models that tell wines apart, and two wines as And-Or graphs.

One model is the zoo's network; the other one, of scikit-learn, is logged to MLflow first, as users have theirs.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from conceptry.evaluation.demo import Tour
from conceptry.evaluation.harsanyi.data import SampleData, load_samples
from conceptry.models.zoo.datasets import Dataset, load_dataset
from conceptry.registry import Requirement, connect
from conceptry.registry.store import ensure_experiment

BLACK_BOX = "wine-forest"
SAMPLES = 8
MAX_ERROR = 0.02
SHOWN = 2


def _prepare(output: Path) -> Sequence[Mapping[str, Any]]:
    data = load_dataset("wine")
    background = output / "wine-background.csv"
    data.inputs.iloc[data.train].to_csv(background, index=False)
    return (
        {"model": "zoo:wine"},
        {"model": "zoo:wine", "baseline": "median"},
        {"model": "zoo:wine", "baseline": "learned"},
        {"model": "zoo:wine", "interactions": "and-or"},
        {"model": _black_box(data), "statistics": str(background), "reward": "probability"},
    )


def _black_box(data: Dataset) -> str:
    """The URI of a random forest of scikit-learn over the training rows, registered once."""
    import mlflow
    from mlflow.sklearn import log_model
    from sklearn.ensemble import RandomForestClassifier

    client = connect()
    if client.search_model_versions(f"name = '{BLACK_BOX}'"):
        return f"models:/{BLACK_BOX}/1"
    names = [data.classes[int(k)] for k in data.targets[data.train]]
    rows = data.inputs.iloc[data.train]
    model = RandomForestClassifier(50, min_samples_leaf=5, random_state=0).fit(rows, names)
    experiment = ensure_experiment(client, "conceptry/demo")
    run = client.create_run(experiment.experiment_id, run_name=BLACK_BOX)
    # MLflow says on standard error what the demo says in its own words.
    with redirect_stderr(StringIO()), mlflow.start_run(run.info.run_id):
        log_model(
            model,
            name=BLACK_BOX,
            registered_model_name=BLACK_BOX,
            input_example=rows.head(2),
            skops_trusted_types=["sklearn.tree._tree.Tree"],  # no pickle, but MLflow asks for a word on trees
            pip_requirements=["scikit-learn", "skops"],  # MLflow would load the model in a process of its own to see
        )
    return f"models:/{BLACK_BOX}/1"


def _data(size: int) -> SampleData:
    return load_samples("zoo:wine", {"model": "zoo:wine", "modality": "table"}, min(size, SAMPLES), seed=0)


def _rank(metrics: Mapping[str, float]) -> tuple[float, ...]:
    return -metrics["salient"], -metrics["seconds"]


def _wines(output: Path) -> list[Path]:
    data = load_dataset("wine")
    file = output / "wines.csv"
    data.inputs.iloc[data.heldout[:SHOWN]].to_csv(file, index=False)
    return [file]


def _request(table: Path) -> str:
    rows = json.loads(str(pd.read_csv(table, nrows=1).to_json(orient="records")))
    file = table.with_name("wine-request.json")
    file.write_text(json.dumps({"dataframe_records": rows}) + "\n", encoding="utf-8")
    return f"cat {shlex.quote(str(file))}"


TOUR = Tour(
    method="harsanyi",
    name="wine-harsanyi",
    prepare=_prepare,
    data=_data,
    requirement=Requirement("square_error", "<=", MAX_ERROR),
    rank=_rank,
    rule=f"fewest salient patterns among versions with square_error <= {MAX_ERROR:g}; ties: the faster",
    samples=_wines,
    figures=[("wine.png", "graph"), ("wine-patterns.png", "explanation"), ("wine.html", None)],
    request=_request,
)
