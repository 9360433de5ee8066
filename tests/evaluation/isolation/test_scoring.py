"""Answers over HTTP without a server: whatever comes is answered, refused in a sentence, or called malformed."""

import json
from collections import Counter

import pytest

from conceptry.evaluation.benchmarks.fuzzing import fuzzed, has_trace
from conceptry.evaluation.isolation import scoring
from conceptry.registry import load

JSON = "application/json"


@pytest.mark.parametrize("version", ["tiny_version", "harsanyi_version", "perturbation_version", "milan_version"])
def test_no_request_fails_inside(version: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "true")
    model = load(request.getfixturevalue(version).uri)
    params = [spec.name for spec in model.metadata.get_params_schema().params]
    found: Counter[int] = Counter()
    for sent in fuzzed(model.input_example, params, 150):
        if (sent.verb, sent.path) == ("POST", "/invocations"):
            answer = scoring.score(model, sent.body, sent.headers.get("Content-Type", ""), 100)
            assert answer.status in (200, 400, 413, 415), answer
            assert not has_trace(answer.status, answer.text), answer
            assert answer.status == 200 or (answer.kind != "ok" and "\n" not in answer.text.strip())
            found[answer.status] += 1
    assert found[200] > 5
    assert found[400] > 50


def test_what_the_version_says_comes_without_what_mlflow_adds(tiny_version) -> None:
    model = load(tiny_version.uri)
    body = json.dumps({"dataframe_records": [{"text": " "}]}).encode()
    answer = scoring.score(model, body, JSON, 100)
    assert answer == (400, "refused", 1, "row 0, column 'text': expected a text that is not blank")
    answer = scoring.score(model, b"text\na dog\n", "text/csv", 100)
    assert (answer.status, answer.kind) == (415, "malformed")
    assert answer.text.startswith("text/csv cannot hold the columns of this version; send JSON")
