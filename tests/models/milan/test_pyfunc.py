"""The table that goes in, the table that comes out, and a sentence for each thing that is wrong with a request."""

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

import colours
from conceptry.models.images import decode_image, png_bytes
from conceptry.registry import load

COLUMNS = {
    *("layer", "unit", "active", "description", "score", "log_likelihood", "pmi", "alternatives"),
    *("ids", "activations", "images", "masks"),
}


@pytest.fixture(scope="module")
def model(milan_version):
    return load(milan_version.uri)


def ask(model, rows: list[dict], **params) -> list[dict]:
    return model.predict(pd.DataFrame(rows, dtype=object), params=params).to_dict("records")


def file_of(pixels: np.ndarray) -> bytes:
    """A PNG file of pixels (3, H, W), or of a mask (1, H, W) of 0 and 1."""
    if len(pixels) == 1:
        return png_bytes(Image.fromarray(pixels[0] * np.uint8(255)))
    return png_bytes(Image.fromarray(np.moveaxis(pixels, 0, -1)))


def pictures_of(colour: str, count: int = 3, side: int = colours.SIDE) -> dict[str, list[bytes]]:
    """A row of pictures with a square of a colour, and their masks."""
    pairs = [colours.scene(colour, seed, side) for seed in range(count)]
    return {"images": [file_of(image) for image, _ in pairs], "masks": [file_of(mask) for _, mask in pairs]}


def check_colour(answer: dict, colour: str, temperature: float = 0.2) -> None:
    """What the weights set by hand say of exemplars whose masks are all of a colour."""
    expected = colours.log_likelihoods(colours.RGB[colour])
    best = colours.WORDS.index(colour)
    assert (answer["active"], answer["description"]) == (True, colour.capitalize())
    assert answer["log_likelihood"] == pytest.approx(expected[best], abs=1e-4)
    assert answer["score"] == pytest.approx(expected[best] - temperature * colours.LM, abs=1e-4)
    assert answer["pmi"] == pytest.approx(expected[best] - colours.LM, abs=1e-4)
    others = {other["text"]: other for other in answer["alternatives"]}
    for word, value in zip(colours.WORDS, expected, strict=True):
        if word != colour:
            assert others[word.capitalize()]["log_likelihood"] == pytest.approx(value, abs=1e-4)


def test_units_of_the_network_by_layer_and_number(model) -> None:
    rows = [{"layer": layer, "unit": unit} for layer, units in colours.UNITS.items() for unit in units]
    answers = ask(model, rows)
    for row, answer in zip(rows, answers, strict=True):
        assert set(answer) == COLUMNS
        assert (answer["layer"], answer["unit"]) == (row["layer"], row["unit"])
        known = colours.exemplars(row["layer"]).unit(row["unit"])
        assert known.ids is not None
        assert known.activations is not None
        assert answer["ids"] == known.ids.tolist()
        assert answer["activations"] == known.activations.tolist()
        assert answer["images"] == answer["masks"] == []
        if colour := colours.UNITS[row["layer"]][row["unit"]]:
            check_colour(answer, colour)
    assert ask(model, rows[:1])[0] == answers[0]


def test_a_unit_that_is_never_active_is_not_described(model) -> None:
    (answer,) = ask(model, [{"layer": "first", "unit": 3}], exemplars=True)
    assert (answer["active"], answer["description"], answer["alternatives"]) == (False, "", [])
    assert (answer["score"], answer["log_likelihood"], answer["pmi"]) == (0, 0, 0)
    assert len(answer["images"]) == len(answer["masks"]) == colours.K
    row = pictures_of("red")
    row["masks"] = [file_of(np.zeros((1, colours.SIDE, colours.SIDE), np.uint8))] * 3
    (answer,) = ask(model, [row])
    assert (answer["active"], answer["description"], answer["layer"], answer["unit"]) == (False, "", "", -1)


def test_exemplars_on_request_can_be_asked_about_again(model) -> None:
    (unit,) = ask(model, [{"layer": "7", "unit": 5}], exemplars=True)
    known = colours.exemplars("7").unit(5)
    for content, image in zip(unit["images"], known.images, strict=True):
        np.testing.assert_array_equal(np.moveaxis(np.asarray(decode_image(content)), -1, 0), image)
    (again,) = ask(model, [{name: unit[name] for name in ("images", "masks")}], exemplars=True)
    for name in ("description", "score", "log_likelihood", "pmi", "alternatives"):
        assert again[name] == unit[name]
    assert (again["layer"], again["unit"], again["ids"], again["images"]) == ("", -1, [], [])


@pytest.mark.parametrize("colour", colours.WORDS)
def test_pictures_and_masks_of_an_unknown_unit(model, colour: str) -> None:
    for count, side in ((1, 32), (3, 32), (5, 64)):
        (answer,) = ask(model, [pictures_of(colour, count, side)])
        check_colour(answer, colour)
    row = {
        name: [base64.encodebytes(content).decode() for content in cell] for name, cell in pictures_of(colour).items()
    }
    (text,) = ask(model, [row])
    (array,) = ask(model, [{name: np.array(cell, dtype=object) for name, cell in row.items()}])
    check_colour(text, colour)
    assert array == text


def test_rows_of_both_ways_in_one_request(model) -> None:
    rows: list[dict[str, Any]] = []
    expected = []
    for i in range(70):
        colour = colours.WORDS[i % 3]
        rows.append(pictures_of(colour, 1 + i % 2) if i % 7 else {"layer": "first", "unit": i % 3})
        expected.append(colour)
    answers = ask(model, rows)
    for answer, colour in zip(answers, expected, strict=True):
        check_colour(answer, colour)
    for i in (0, 1, 69):
        (alone,) = ask(model, rows[i : i + 1])
        assert alone["description"] == answers[i]["description"]
        assert alone["score"] == pytest.approx(answers[i]["score"], abs=1e-5)


def test_a_drawn_description_does_not_depend_on_the_other_rows(model) -> None:
    rows = [{"layer": "first", "unit": i % 3} if i % 2 else pictures_of("yellow") for i in range(40)]
    said = set()
    for seed in range(4):
        params = {"strategy": "sample", "seed": seed, "alternatives": 4}
        together = ask(model, rows, **params)
        for i in (0, 1, 34, 38):
            (alone,) = ask(model, rows[i : i + 1], **params)
            texts = [[other["text"] for other in answer["alternatives"]] for answer in (alone, together[i])]
            assert (alone["description"], texts[0]) == (together[i]["description"], texts[1])
        said.add(together[0]["description"])
    assert said == {"Red", "Green"}  # which are equally probable of yellow


def test_numbers_as_tables_and_text_have_them(model) -> None:
    for layer in ("7", 7, 7.0, np.int64(7), " 7"):
        for unit in (5, "5", 5.0, "5.0", np.int32(5), np.float32(5), " 5 "):
            if layer == " 7":
                continue
            (answer,) = ask(model, [{"layer": layer, "unit": unit}])
            assert (answer["layer"], answer["unit"], answer["description"]) == ("7", 5, "Red")
    frame = pd.DataFrame([{"layer": "7", "unit": 5}, pictures_of("blue")])  # units become 5.0 and NaN
    assert model.predict(frame)["description"].tolist() == ["Red", "Blue"]


def test_masks_in_other_forms(model) -> None:
    image, mask = colours.scene("green", 3)
    plain = mask[0]
    shades = np.where(plain, 128, 127).astype(np.uint8)
    forms = {
        "ones": Image.fromarray(plain),
        "white": Image.fromarray(plain * np.uint8(255)),
        "bits": Image.fromarray(plain.astype(bool)),
        "grey": Image.fromarray(shades),
        "colour": Image.fromarray(np.repeat(plain[..., None] * np.uint8(255), 3, axis=2)),
        "opaque": Image.fromarray(np.dstack([plain * np.uint8(255)] * 3 + [np.full_like(plain, 255)])),
        "sixteen": Image.fromarray(plain.astype(np.uint16) * 65535),
    }
    answers = {
        name: ask(model, [{"images": [file_of(image)], "masks": [png_bytes(form)]}])[0] for name, form in forms.items()
    }
    for answer in answers.values():
        check_colour(answer, "green")
        assert answer == answers["ones"]


def wrong(**changes: Any) -> dict[str, Any]:
    return pictures_of("red") | changes


SMALL, LARGE = (png_bytes(Image.new("RGB", (side, side), "red")) for side in (16, 5000))
GOOD = pictures_of("red")
CLEAR = png_bytes(Image.new("RGBA", (32, 32), (255, 255, 255, 0)))
DIM = png_bytes(Image.new("L", (32, 32), 100))


@pytest.mark.parametrize(
    ("row", "column", "sentence"),
    [
        ({}, "", "none of the columns is given; expected layer and unit, or images and masks"),
        ({"layer": None, "unit": float("nan")}, "", "none of the columns is given"),
        ({"layer": "frist", "unit": 0}, "layer", "there is no layer 'frist' in this version; expected one such"),
        ({"layer": "", "unit": 0}, "layer", "there is no layer '' in this version; expected one such as 7, first"),
        ({"layer": "first"}, "unit", "is not given; expected the number of a unit of that layer"),
        ({"unit": 1}, "layer", "is not given; expected the layer of the unit"),
        ({"layer": "first", "unit": 4}, "unit", "layer first has no unit 4; expected 0 to 3"),
        ({"layer": "7", "unit": 3}, "unit", "layer 7 has no unit 3; expected one such as 2, 5, 11"),
        ({"layer": 7.5, "unit": 3}, "layer", "expected the name of a layer, got 7.5"),
        ({"layer": ["7"], "unit": 3}, "layer", "expected the name of a layer, got ['7']"),
        ({"layer": True, "unit": 3}, "layer", "expected the name of a layer, got True"),
        ({"layer": "7", "unit": True}, "unit", "expected the number of a unit, a whole one from 0, got True"),
        ({"layer": "7", "unit": -1}, "unit", "expected the number of a unit, a whole one from 0, got -1"),
        ({"layer": "7", "unit": "five"}, "unit", "a whole one from 0, got 'five'"),
        ({"layer": "7", "unit": "5e0"}, "unit", "a whole one from 0, got '5e0'"),
        ({"layer": "7", "unit": "\u0665"}, "unit", "a whole one from 0, got '\u0665'"),
        ({"layer": "7", "unit": 5.5}, "unit", "a whole one from 0, got 5.5"),
        ({"layer": "7", "unit": float("inf")}, "unit", "a whole one from 0, got inf"),
        ({"layer": "7", "unit": 10**400}, "unit", "a whole one from 0, got 1000"),
        ({"layer": "7", "unit": {"a": 1}}, "unit", "a whole one from 0, got {'a': 1}"),
        ({"layer": "x" * 10_000, "unit": 1}, "layer", "... (10,002 characters) in this version"),
        (GOOD | {"layer": "first"}, "", "columns 'layer' and 'images' are both given; expected layer and unit of the"),
        (GOOD | {"unit": 0}, "", "columns 'unit' and 'images' are both given"),
        ({"layer": "first", "unit": 0, "masks": GOOD["masks"]}, "", "columns 'layer' and 'masks' are both given"),
        ({"images": GOOD["images"]}, "masks", "is not given; expected a mask for each picture; one that is"),
        ({"masks": GOOD["masks"]}, "images", "is not given; expected the pictures that the masks belong"),
        (wrong(images=GOOD["images"][0]), "images", "expected a list of pictures, got bytes"),
        (wrong(images="!!"), "images", "expected a list of pictures, got str"),
        (wrong(masks=5), "masks", "expected a list of masks, got float"),
        (wrong(masks={"a": 1}), "masks", "expected a list of masks, got dict"),
        (wrong(images=[]), "images", "holds no pictures; expected at least one"),
        (wrong(images=GOOD["images"] * 40), "images", "holds 120 pictures; at most 100 are accepted"),
        (wrong(masks=GOOD["masks"][:2]), "masks", "holds 2 masks for 3 pictures; expected one for each"),
        (wrong(images=[*GOOD["images"][:2], b"junk"]), "images", "picture 2: not a picture: expected PNG"),
        (wrong(images=[*GOOD["images"][:2], None]), "images", "picture 2: expected the bytes of a picture or"),
        (wrong(images=[*GOOD["images"][:2], SMALL]), "images", "picture 2 is 16 x 16 pixels, and picture 0 is 32 x 32"),
        (wrong(images=[LARGE] * 3), "images", "picture 0: the picture has 5000 x 5000 pixels; at most 5,592,405"),
        (wrong(masks=[*GOOD["masks"][:2], SMALL]), "masks", "mask 2: its highest grey level is 76"),
        (wrong(masks=[DIM, *GOOD["masks"][:2]]), "masks", "mask 0: its highest grey level is 100; expected levels"),
        (wrong(masks=[CLEAR, *GOOD["masks"][:2]]), "masks", "mask 0: has transparent pixels, which are neither"),
        (wrong(masks=[GOOD["masks"][0][:60], *GOOD["masks"][:2]]), "masks", "mask 0: the picture cannot be"),
        (
            wrong(masks=[file_of(np.ones((1, 16, 16), np.uint8)), *GOOD["masks"][:2]]),
            "masks",
            "mask 0 is 16 x 16 pixels; expected the size of its picture, 32 x 32",
        ),
    ],
)
def test_a_wrong_cell_is_named(model, row: dict, column: str, sentence: str) -> None:
    with pytest.raises(MlflowException) as caught:
        ask(model, [{"layer": "first", "unit": 0}, row])
    message = caught.value.message
    assert message.startswith(f"row 1, column {column!r}: " if column else "row 1: ")
    assert sentence in message
    assert len(message) < 400


def test_params_of_a_request(model) -> None:
    rows = [{"layer": "first", "unit": 0}]
    (plain,) = ask(model, rows)
    for strategy in ("greedy", "beam", "mi", "rerank"):
        (answer,) = ask(model, rows, strategy=strategy)
        assert answer["description"] == "Red"
        assert answer["log_likelihood"] == pytest.approx(plain["log_likelihood"], abs=1e-5)
        ranked = plain["log_likelihood"] - (0.2 if strategy in ("mi", "rerank") else 0) * colours.LM
        assert answer["score"] == pytest.approx(ranked, abs=1e-4)
    check_colour(ask(model, rows, temperature=0.7)[0], "red", temperature=0.7)
    assert ask(model, rows, alternatives=1)[0]["alternatives"] == plain["alternatives"][:1]
    assert ask(model, rows, alternatives=0)[0]["alternatives"] == []
    drawn = [ask(model, rows, strategy="sample", seed=seed)[0] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]
    assert ask(model, rows, strategy="", seed=None) == [plain]
    ranked = ask(model, rows, clip=True)[0]
    assert abs(ranked["score"]) <= colours.K
    assert ranked["score"] != ask(model, rows, clip=True, clip_weight=1.0)[0]["score"]


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"strategy": "guess"}, "strategy must be one of greedy, sample, beam, mi, rerank, got 'guess'"),
        ({"beam_size": 0}, "beam_size must be from 1 to 5,000, got 0"),
        ({"beam_size": 10**9}, "beam_size must be from 1 to 5,000, got 1000000000"),
        ({"length": 0}, "length must be from 1 to 100, got 0"),
        ({"alternatives": -1}, "alternatives must be from 0 to 5,000, got -1"),
        ({"temperature": float("nan")}, "temperature must be from 0 to 100, got nan"),
        ({"temperature": -0.1}, "temperature must be from 0 to 100, got -0.1"),
        ({"clip": True, "clip_weight": 1.5}, "clip_weight must be from 0 to 1, got 1.5"),
        ({"clip": True, "strategy": "greedy"}, "clip ranks the candidates of mi and rerank, not of greedy"),
        ({"seed": -1}, "seed must be from 0 to below 2^63, got -1"),
    ],
)
def test_a_wrong_param_is_named(model, params: dict, sentence: str) -> None:
    with pytest.raises(MlflowException) as caught:
        ask(model, [{"layer": "first", "unit": 0}], **params)
    assert sentence in caught.value.message


def test_progress_is_told_and_large_requests_are_in_order(model, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []
    monkeypatch.setattr(model.unwrap_python_model(), "progress", lambda text, share: heard.append(share))
    rows = [{"layer": "first", "unit": i % 4} for i in range(101)]
    answers = ask(model, rows)
    assert [answer["unit"] for answer in answers] == [i % 4 for i in range(101)]
    assert [answer["description"] for answer in answers[:4]] == ["Red", "Green", "Blue", ""]
    assert heard == sorted(heard)
    assert (len(heard), heard[-1]) == (4, 1)


def test_many_threads_get_their_own_answers(model) -> None:
    cells = [{"layer": "first", "unit": 1}, pictures_of("blue"), {"layer": "7", "unit": 5}, pictures_of("green", 5, 64)]
    params: list[dict[str, Any]] = [{}, {"strategy": "greedy"}, {"exemplars": True}, {"strategy": "sample", "seed": 3}]
    alone = [ask(model, [row], **how)[0] for row, how in zip(cells, params, strict=True)]
    barrier = threading.Barrier(8)

    def one(worker: int) -> list[dict]:
        barrier.wait()
        return [ask(model, [cells[i % 4]], **params[i % 4])[0] for i in range(worker, worker + 4)]

    with ThreadPoolExecutor(8) as pool:
        for worker, answers in enumerate(pool.map(one, range(8))):
            assert answers == [alone[i % 4] for i in range(worker, worker + 4)]


def test_spark_gets_text_instead_of_bytes(model, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"layer": "first", "unit": 0}
    (here,) = ask(model, [row], exemplars=True)
    monkeypatch.setattr("conceptry.models.milan.pyfunc.in_spark", lambda: True)
    (there,) = ask(model, [row], exemplars=True)
    for name in ("images", "masks"):
        assert [base64.b64decode(content) for content in there[name]] == here[name]
        assert all(isinstance(content, bytes) for content in here[name])


def test_an_answer_has_the_types_of_the_signature(model) -> None:
    answer = model.predict(pd.DataFrame([{"layer": "first", "unit": 0}, pictures_of("red")]))
    declared = {column.name: column.type for column in model.metadata.signature.outputs}
    assert list(declared) == list(answer.columns)
    kinds = {"layer": "str", "unit": np.int64, "active": np.bool_, "score": np.float64, "pmi": np.float64}
    for name, kind in kinds.items():
        assert all(isinstance(value, (str if kind == "str" else kind, int, float)) for value in answer[name])
    assert answer["active"].dtype == bool
    assert answer["unit"].dtype == np.int64
    io.StringIO(answer.to_json())
