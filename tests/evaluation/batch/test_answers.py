"""Answers as columns of a table."""

import pyarrow as pa

from conceptry.evaluation.batch.answers import answer_arrays, answer_columns, asked_fingerprint
from conceptry.models.method import METHODS, load_method


def test_all_methods_have_columns() -> None:
    from conceptry.models.harsanyi import pyfunc

    for method in METHODS:
        explainer = load_method(method).explainer_class()
        outputs = getattr(explainer, "signature", None)
        if outputs is None:  # the signature of harsanyi depends on the package, its answers do not
            outputs = type("Signature", (), {"outputs": pyfunc._OUTPUTS})
        columns = answer_columns(method, outputs, {"details": True, "return_embedding": True})
        assert answer_arrays(columns, [None])[next(iter(columns))].to_pylist() == [None]
        if method == "splice":
            assert columns["embedding"] == pa.list_(pa.float64())
        if method == "perturbation":
            assert (columns["image"], columns["start"]) == (pa.binary(), pa.binary())
            assert columns["other"].value_type.field("image").type == pa.binary()
        if method == "milan":
            assert columns["masks"] == pa.list_(pa.binary())
        if method == "harsanyi":
            answer = {"patterns": [{"players": ["a"], "effect": 1.0, "kind": "and"}], "sample": {"a": 1}}
            arrays = answer_arrays(columns, [answer])
            assert arrays["patterns"].to_pylist() == [[answer["patterns"][0] | {"spread": None}]]
            assert arrays["sample"].to_pylist() == ['{"a": 1}']


def test_other_parameters_are_other_rows() -> None:
    assert asked_fingerprint("f", {}) == "f"
    assert asked_fingerprint("f", {"a": 1, "b": 2}) == asked_fingerprint("f", {"b": 2, "a": 1}) != "f"
    assert asked_fingerprint("f", {"a": 1}) != asked_fingerprint("f", {"a": 2})
