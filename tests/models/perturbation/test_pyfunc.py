"""The table that goes in, the table that comes out, and a sentence for each thing that is wrong with a request."""

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from PIL import Image
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from conceptry.models.perturbation.record import amplify
from conceptry.registry import load, register

COLUMNS = {
    *("target", "image", "delta", "after", "changed", "l1", "l2", "loss", "success", "no_gradient", "steps"),
    *("source", "before", "gap", "q", "epsilon", "clipped", "other"),
}


@pytest.fixture(scope="module")
def model(perturbation_version):
    return load(perturbation_version.uri)


@pytest.fixture(scope="module")
def files(pictures) -> list[bytes]:
    return [png_bytes(Image.fromarray(picture)) for picture in pictures]


def ask(model, rows: list[dict], **params) -> list[dict]:
    """In few steps, since no test is about how good an answer is."""
    return model.predict(pd.DataFrame(rows, dtype=object), params={"steps": 12} | params).to_dict("records")


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_an_answer_says_what_it_promises(model, network, files) -> None:
    rows = [{"image": content, "target": str((i + 3) % 10)} for i, content in enumerate(files[:5])]
    answers = ask(model, rows, details=True)
    assert set(answers[0]) == COLUMNS | {"start", "history", "path"}
    for row, answer, content in zip(rows, answers, files, strict=False):
        result, start, delta = (pixels_of(answer[name]).astype(int) for name in ("image", "start", "delta"))
        assert result.shape == (8, 8, 3)
        np.testing.assert_array_equal(start, pixels_of(content))
        difference = (result - start)[..., 0]
        assert answer["changed"] == (difference != 0).mean()
        assert answer["l1"] == pytest.approx(np.abs(difference).sum() / 255, abs=1e-5)
        assert answer["l2"] == pytest.approx(np.sqrt((difference**2).sum()) / 255, abs=1e-5)
        expected = np.rint(127.5 + 127.5 * difference / np.abs(difference).max())
        assert np.abs(delta[..., 0] - expected).max() <= 1
        p = torch.tensor(network(result[None].astype(np.uint8))).softmax(1)[0]
        after = {entry["class"]: entry["probability"] for entry in answer["after"]}
        assert list(after) == [str(k) for k in p.argsort(descending=True)[:5].tolist()]
        assert list(after.values()) == pytest.approx([float(p[int(name)]) for name in after], abs=1e-5)
        assert answer["target"] == row["target"]
        assert answer["success"] == (int(p.argmax()) == int(row["target"]))
        assert answer["source"] == answer["before"][0]["class"]
        assert answer["loss"] == pytest.approx(-np.log(float(p[int(row["target"])])), abs=1e-4)
        assert (answer["steps"], answer["clipped"], answer["q"]) == (12, True, 0.9)
        assert answer["epsilon"] == 12.0
        assert (len(answer["history"]), list(answer["other"]), list(answer["path"])) == (13, [], [])
    assert set(ask(model, rows[:1])[0]) == COLUMNS


def test_the_same_request_gives_the_same_bytes(model, files) -> None:
    rows = [{"target": "3"}, {"target": 4}]
    first, second = (ask(model, rows, mode="probe", seed=5, dq=0.05) for _ in range(2))
    assert [answer["image"] for answer in first] == [answer["image"] for answer in second]
    assert ask(model, rows, mode="probe", seed=6, dq=0.05)[0]["image"] != first[0]["image"]
    assert ask(model, rows, mode="probe", start="grey", details=True)[1]["start"] != first[1]["image"]


def test_every_mode(model, files) -> None:
    probes = ask(model, [{"target": 7}, {"target": "7", "image": files[3]}], mode="probe", details=True)
    assert [answer["target"] for answer in probes] == ["7", "7"]
    np.testing.assert_array_equal(pixels_of(probes[1]["start"]), pixels_of(files[3]))
    away = ask(model, [{"image": files[0]}, {"image": files[1], "source": "1"}, {"image": files[2], "target": 5}])
    assert [answer["source"] for answer in away] == ["0", "1", "2"]
    assert [answer["success"] for answer in away[:2]] == [answer["target"] != answer["source"] for answer in away[:2]]
    (error,) = ask(model, [{"image": files[0], "target": 0, "source": "6"}], mode="explain_error")
    (other,) = error["other"]
    assert (error["target"], error["source"], other["target"]) == ("0", "6", "6")
    assert set(other) == set(error) - {"source", "before", "gap", "q", "epsilon", "clipped", "other"}
    assert other["image"] != error["image"]
    inverted = ask(model, [{"image": files[0]}, {"image": files[0], "source": files[1]}], mode="invert", details=True)
    assert [answer["target"] for answer in inverted] == ["0", "0"]
    np.testing.assert_array_equal(pixels_of(inverted[1]["start"]), pixels_of(files[1]))
    assert inverted[1]["source"] == "1"
    assert inverted[0]["loss"] < inverted[0]["history"][0]


def test_params_of_a_request(model, files) -> None:
    rows = [{"image": files[0], "target": 3}]
    (budget,) = ask(model, rows, max_changed=0.1)
    assert budget["changed"] <= 0.1
    (attack,) = ask(model, rows, optimizer="l2_projected", epsilon=1.25, steps=5)
    assert (attack["gap"], attack["q"], attack["epsilon"], attack["steps"]) == (0.0, 0.0, 1.25, 5)
    assert attack["l2"] <= 1.25 + 8 * 0.5 / 255
    (sparse,) = ask(model, rows, sparsest=True, details=True)
    assert sparse["success"]
    assert sparse["changed"] == min(point["changed"] for point in sparse["path"] if point["success"])
    assert set(sparse["path"][0]) == {"round", "q", "epsilon", "pixels", "changed", "confidence", "success"}
    (early,) = ask(model, rows, confidence=0.3)
    assert early["steps"] < 12
    first = ask(model, [{"image": files[0]}], mode="invert", layer="0")[0]
    assert first["loss"] != ask(model, [{"image": files[0]}], mode="invert")[0]["loss"]


@pytest.mark.parametrize(
    ("row", "params", "sentence"),
    [
        ({"image": None}, {}, "row 1, column 'image': is not given; counterfactual needs a picture in every row"),
        ({"image": "!!!???"}, {}, "row 1, column 'image': not a picture: expected PNG, JPEG"),
        ({"image": b"\x89PNG cut"}, {}, "row 1, column 'image': not a picture"),
        ({"image": 5}, {}, "row 1, column 'image': expected the bytes of a picture .* got int"),
        ({"target": "ten"}, {}, "row 1, column 'target': zoo:digits-robust has no class 'ten'; there are '0', '1'"),
        ({"target": 10}, {}, "row 1, column 'target': .* has no class '10'; near it are '1', '0', or an index"),
        ({"target": 1.5}, {}, "row 1, column 'target': expected the name or the index of a class, got 1.5"),
        ({"target": [1]}, {}, r"row 1, column 'target': expected the name or the index of a class, got \[1\]"),
        ({"source": "x"}, {}, "row 1, column 'source': .* has no class 'x'"),
        ({"target": None}, {"mode": "probe"}, "row 1, column 'target': is not given; probe needs a class in every"),
        ({"source": 2}, {"mode": "probe"}, "row 1, column 'source': is given, and probe takes target and image only"),
        ({"target": None}, {"mode": "explain_error"}, "row 1, column 'target': is not given; explain_error needs a"),
        ({}, {"mode": "invert"}, "row 0, column 'target': is given, and invert takes image and source only"),
    ],
)
def test_a_wrong_cell_is_named(model, files, row: dict, params: dict, sentence: str) -> None:
    good = {"image": files[0], "target": 1}
    if params.get("mode") == "explain_error":
        good["target"] = 9
    with pytest.raises(MlflowException, match=sentence):
        ask(model, [good, good | row], **params)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"mode": "ask"}, "mode must be one of probe, counterfactual"),
        ({"q": 1.0}, "q must be from 0 to below 1, got 1.0"),
        ({"steps": 0}, "steps must be 1 to 10,000, got 0"),
        ({"epsilon": -1.0}, "epsilon must be a finite number above 0, got -1.0"),
        ({"max_changed": 0.01}, r"max_changed 0.01 of 8 x 8 pixels is not one pixel, a budget that cannot be met; the"),
        (
            {"q": 0.999},
            r"q 0.999 of 64 entries leaves none to move, a budget that cannot be met; it must be below 0.99",
        ),
        ({"optimizer": "adam"}, "optimizer must be one of"),
        ({"mode": "probe", "sparsest": True}, "sparsest searches a counterfactual, and mode is probe"),
    ],
)
def test_a_wrong_param_is_named(model, files, params: dict, sentence: str) -> None:
    with pytest.raises(MlflowException, match=sentence):
        ask(model, [{"image": files[0], "target": 1}], **params)


def test_what_is_no_error_and_what_has_another_size(model, files) -> None:
    with pytest.raises(MlflowException, match=r"row 0, column 'target': the true class is '0', which the network pred"):
        ask(model, [{"image": files[0], "target": 0}], mode="explain_error")
    with pytest.raises(MlflowException, match=r"row 0, column 'target': the true class is '4', and so is the source"):
        ask(model, [{"image": files[0], "target": 4, "source": "4"}], mode="explain_error")
    large = png_bytes(Image.new("RGB", (16, 9)))
    with pytest.raises(MlflowException, match=r"row 0, column 'image': .* takes pictures of 8 x 8 pixels, got 16 x 9"):
        ask(model, [{"image": large}])
    with pytest.raises(MlflowException, match="has no layer 'nowhere'; expected one such as 0, 1"):
        ask(model, [{"image": files[0]}], mode="invert", layer="nowhere")


def test_the_answer_can_be_asked_about_again(model, files) -> None:
    (answer,) = ask(model, [{"image": files[0], "target": 3}])
    (again,) = ask(model, [{"image": base64.encodebytes(answer["image"]).decode(), "target": 3}], details=True)
    for before, after in zip(again["before"], answer["after"], strict=True):
        assert before["class"] == after["class"]
        assert before["probability"] == pytest.approx(after["probability"], abs=1e-5)
    np.testing.assert_array_equal(pixels_of(again["start"]), pixels_of(answer["image"]))


def test_large_requests_are_answered_in_parts_in_order(model, files, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = model.unwrap_python_model()
    heard: list[float] = []
    monkeypatch.setattr(inner, "progress", lambda text, share: heard.append(share))
    rows = [{"target": i % 10} if i % 2 else {"target": i % 10, "image": files[i % 20]} for i in range(150)]
    answers = ask(model, rows, mode="probe", steps=2)
    assert [answer["target"] for answer in answers] == [str(i % 10) for i in range(150)]
    assert heard == sorted(heard)
    assert heard[-1] == pytest.approx(1)
    (alone,) = ask(model, rows[100:101], mode="probe", steps=2)
    assert alone["l1"] == pytest.approx(answers[100]["l1"], abs=0.02)


def test_many_threads_get_their_own_answers(model, files) -> None:
    modes = ("probe", "counterfactual", "invert", "explain_error")
    cells = ({"target": 3}, {"image": files[5], "target": 2}, {"image": files[4]}, {"image": files[1], "target": 9})
    alone = [ask(model, [row], mode=mode)[0]["image"] for mode, row in zip(modes, cells, strict=True)]
    barrier = threading.Barrier(8)

    def one(k: int) -> bytes:
        barrier.wait()
        return ask(model, [cells[k % 4]], mode=modes[k % 4])[0]["image"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == alone + alone


def test_delta_is_amplified_around_grey() -> None:
    delta = torch.tensor([[[0.0, 0.02], [-0.01, 0.005]]])
    assert amplify(delta).flatten().tolist() == pytest.approx([0.5, 1.0, 0.25, 0.625])
    assert amplify(torch.zeros(1, 2, 2)).unique().tolist() == [0.5]


@pytest.mark.usefixtures("store")
def test_options_are_checked_before_anything_is_stored() -> None:
    for options, sentence in (
        ({"model": "zoo:wine"}, "zoo:wine: takes table, expected a network over pictures"),
        ({"model": "zoo:digits", "max_changed": 0.001}, r"max_changed 0.001 of 8 x 8 pixels is not one pixel"),
        ({"model": "zoo:digits", "layer": "nowhere"}, "zoo:digits: has no layer 'nowhere'"),
        ({"model": "zoo:digits", "q": 2.0}, "q must be from 0 to below 1"),
        ({"model": "zoo:digits", "q": 0.999}, "q 0.999 of 64 entries leaves none to move"),
        ({"model": "zoo:digits", "mode": "dream"}, "mode must be one of"),
        ({"model": "zoo:digits", "mode": "probe", "sparsest": True}, "sparsest searches a counterfactual"),
    ):
        with pytest.raises(InputError, match=sentence):
            register("perturbation", options, name="never")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("mode", ["probe", "explain_error", "invert"])
def test_versions_of_every_mode_answer_their_own_example(mode: str) -> None:
    options = {"model": "zoo:digits-robust", "mode": mode, "clip": False}
    version = register("perturbation", options, name=f"by-{mode.replace('_', '-')}").version
    assert (version.params["mode"], version.params["classes"]) == (mode, "10")
    assert list(version.params.items())[:4] == [
        ("model", "zoo:digits-robust"), ("optimizer", "l1q_frank_wolfe"), ("q", "0.9"), ("epsilon", "13.1973"),
    ]  # fmt: skip
    rows = {"probe": {"target": 1}}.get(mode, {"image": png_bytes(Image.new("RGB", (8, 8), (90, 90, 90)))})
    (answer,) = ask(load(version.uri), [rows | ({"target": 1, "source": 2} if mode == "explain_error" else {})])
    assert not answer["clipped"]


@pytest.mark.usefixtures("store")
def test_a_network_of_the_user_in_colour() -> None:
    import mlflow
    from mlflow.pytorch import log_model

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    with mlflow.start_run():
        example = np.zeros((2, 3, 12, 12), np.float32)
        uri = log_model(network.eval(), name="network", input_example=example, pip_requirements=["torch"]).model_uri
    options = {"model": uri, "outputs": "logits", "steps": 3}
    colour = load(register("perturbation", options, name="colour").version.uri)
    rng = np.random.default_rng(0)
    content = png_bytes(Image.fromarray(rng.integers(256, size=(12, 12, 3), dtype=np.uint8)))
    (answer,) = ask(colour, [{"image": content, "target": 2}], details=True)
    assert answer["target"] == "class_2"
    difference = (pixels_of(answer["image"]).astype(int) - pixels_of(answer["start"])) != 0
    assert answer["changed"] == difference.any(2).mean()
