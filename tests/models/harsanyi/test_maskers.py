"""Maskers: what each subset of players looks like to the model, the names of the players, and the refusals."""

import builtins
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import Column
from conceptry.models.harsanyi.maskers.base import check_players, distinct, presence
from conceptry.models.harsanyi.maskers.images import (
    ImageMasker,
    grid_names,
    grid_segments,
    image_baseline,
    slic_segments,
)
from conceptry.models.harsanyi.maskers.points import PointMasker, cluster_points
from conceptry.models.harsanyi.maskers.tabular import TabularMasker, tabular_baseline
from conceptry.models.harsanyi.maskers.tensors import TensorMasker
from conceptry.models.harsanyi.maskers.text import TextMasker, group_words, split_words

COLUMNS = (
    Column("age", "numeric", mean=38.5, median=37.0, std=1.0, minimum=17.0, maximum=90.0, mode=36, dtype="int64"),
    Column("hours", "numeric", mean=40.25, median=40.0, std=1.0, minimum=1.0, maximum=99.0, mode=40.0),
    Column("work", "categorical", categories=("office", "farm", "sea"), mode="office", dtype="str"),
    Column("owns", "categorical", categories=(False, True), mode=False, dtype="bool"),
    Column("rate", "numeric", mean=0.5, median=0.5, std=1.0, minimum=0.0, maximum=1.0, mode=0.5, dtype="float32"),
)
ROW = {"age": 52, "hours": 13.5, "work": "sea", "owns": True, "rate": 0.25}


def all_masks(n: int) -> np.ndarray:
    return np.array(list(itertools.product([False, True], repeat=n)))


def mask(*rows: str) -> np.ndarray:
    return np.array([[character == "1" for character in row] for row in rows])


def test_every_subset_of_a_table_as_row_by_row():
    baseline = tabular_baseline(COLUMNS, "median")
    masker = TabularMasker(ROW, COLUMNS, baseline)
    frame = masker.masked(all_masks(5))
    assert masker.players == ("age", "hours", "work", "owns", "rate")
    assert [str(frame[c.name].dtype) for c in COLUMNS if c.dtype != "str"] == ["int64", "float64", "bool", "float32"]
    assert frame["work"].dtype == pd.DataFrame({"work": ["sea"]})["work"].dtype
    for subset, (_, seen) in zip(all_masks(5), frame.iterrows(), strict=True):
        expected = {c.name: ROW[c.name] if here else baseline[c.name] for c, here in zip(COLUMNS, subset, strict=True)}
        assert seen.to_dict() == expected


def test_groups_and_background_of_a_table():
    groups = {"job": ["work", "hours"], "home": ["owns"]}
    masker = TabularMasker(ROW, COLUMNS, tabular_baseline(COLUMNS, "mode"), groups, background=["rate"])
    assert masker.players == ("age", "job", "home")
    assert masker.owner.tolist() == [0, 1, 1, 2, -1]
    frame = masker.masked(mask("000", "010", "101"))
    assert frame.to_dict("list") == {
        "age": [36, 36, 52],
        "hours": [40, 13.5, 40],
        "work": ["office", "sea", "office"],
        "owns": [False, False, True],
        "rate": [0.25] * 3,
    }


def test_baselines_of_a_table():
    assert tabular_baseline(COLUMNS, "mean") == {
        "age": 38.5,
        "hours": 40.25,
        "work": "office",
        "owns": False,
        "rate": 0.5,
    }
    assert tabular_baseline(COLUMNS, "median")["age"] == 37
    assert tabular_baseline(COLUMNS, "mode")["age"] == 36
    frame = TabularMasker(ROW, COLUMNS, tabular_baseline(COLUMNS, "mean")).masked(mask("00000", "11111"))
    assert frame["age"].tolist() == [38.5, 52]  # a fraction among whole numbers stays what it is
    other = ROW | {"work": "farm", "age": 20}
    assert TabularMasker(ROW, COLUMNS, other).masked(mask("00000")).to_dict("records") == [other]
    with pytest.raises(InputError, match="baseline is 'zero'; expected one of mean, median, mode"):
        tabular_baseline(COLUMNS, "zero")
    with pytest.raises(InputError, match="column 'x' has no median; give a row as the baseline"):
        tabular_baseline([Column("x", "numeric")], "median")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"row": {"age": 5}}, "row: column 'hours' is missing"),
        ({"row": ROW | {"size": 3}}, "row: there is no column 'size'; expected columns among age, hours"),
        ({"row": ROW | {"hours": float("nan")}}, "row: column 'hours' is empty"),
        ({"row": ROW | {"work": "space"}}, "row: column 'work': unknown category 'space'"),
        ({"row": ROW | {"age": 1.5}}, "row: column 'age': 1.5 is not a whole number"),
        ({"baseline": ROW | {"work": "moon"}}, "baseline: column 'work': unknown category 'moon'"),
        ({"baseline": ROW | {"rate": None}}, "baseline: column 'rate' is empty"),
        ({"baseline": {k: v for k, v in ROW.items() if k != "rate"}}, "baseline: column 'rate' is missing"),
        ({"baseline": ROW | {"size": 3}}, "baseline: there is no column 'size'"),
        ({"groups": {"g": ["ages"]}}, "group 'g': there is no column 'ages'"),
        ({"groups": {"g": ["age"], "h": ["age"]}}, "'age' .* is in two groups, or in one and in the background"),
        (
            {"groups": {"g": ["age"]}, "background": ["age"]},
            "'age' .* is in two groups, or in one and in the background",
        ),
        ({"groups": {"g": []}}, "a group of players is empty"),
        ({"groups": {"hours": ["age"]}}, "two players are called 'hours'"),
        ({"background": ["pay"]}, "background: there is no column 'pay'"),
        ({"background": [c.name for c in COLUMNS]}, "there are no players"),
    ],
)
def test_refused_tables(change, message):
    arguments = {"row": ROW, "columns": COLUMNS, "baseline": ROW} | change
    with pytest.raises(InputError, match=message):
        TabularMasker(**arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it's just not very smart.", ["it's", "just", "not", "very", "smart", "."]),
        ("Well-made, 3.5 stars...", ["Well", "-", "made", ",", "3.5", "stars", "..."]),
        ("'tis “so”  (really?!)", ["'", "tis", "“", "so", "”", "(", "really", "?", "!", ")"]),
        ("rock'n'roll\n1,000 a_b", ["rock'n'roll", "1,000", "a_b"]),
        ("caf\u00e9 cafe\u0301 \u2764\ufe0f", ["caf\u00e9", "cafe\u0301", "\u2764\ufe0f"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940 ok", ["\u0939\u093f\u0928\u094d\u0926\u0940", "ok"]),
        ("", []),
        (" \n", []),
    ],
)
def test_words(text, words):
    assert split_words(text) == words


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(alphabet="ab'-., \n(\u0301\u200d3é!", max_size=12))
def test_words_are_all_of_a_text_but_its_white_space_and_make_it_again(text):
    words = split_words(text)
    assert "".join(words) == "".join(text.split())
    if words:
        for baseline in ("[MASK]", None):
            masker = TextMasker(words, baseline, text=text)
            n = len(masker.players)
            assert masker.masked(np.ones((1, n), bool)) == [text]
            kept = np.arange(n) % 2 == 0
            (left,) = masker.masked(kept[None])
            if baseline is None:  # no word is glued to another, and none is lost
                assert "".join(left.split()) == "".join(w for w, here in zip(words, kept, strict=True) if here)


def test_tokens_and_deletion():
    text = "Well-made, (not)  good"
    words = split_words(text)
    token, deletion = (TextMasker(words, baseline, text=text) for baseline in ("[MASK]", None))
    masks = mask("11111111", "10111111", "11101111", "11110111", "11111011", "11111110", "00000000")
    assert token.masked(masks) == [
        "Well-made, (not)  good",
        "Well [MASK] made, (not)  good",
        "Well-made [MASK] (not)  good",
        "Well-made, [MASK] not)  good",
        "Well-made, ( [MASK] )  good",
        "Well-made, (not)  [MASK]",
        "[MASK] [MASK] [MASK] [MASK] [MASK] [MASK] [MASK]  [MASK]",
    ]
    assert deletion.masked(masks) == [
        "Well-made, (not)  good",
        "Well made, (not)  good",  # not "Wellmade"
        "Well-made (not)  good",
        "Well-made, not)  good",
        "Well-made, ()  good",
        "Well-made, (not)",
        "",
    ]
    assert TextMasker(["not", "good", ",", "bad"], None).masked(mask("1111", "1011")) == ["not good, bad", "not, bad"]


def test_names_and_groups_of_words():
    assert TextMasker(split_words("good, good good!"), None).players == ("good", ",", "good (2)", "good (3)", "!")
    words = split_words("it's just not very smart at all.")
    groups = group_words(words, 3)
    assert groups == [[0, 1, 2], [3, 4, 5], [6, 7]]
    masker = TextMasker(words, "_", groups)
    assert masker.players == ("it's just not", "very smart at", "all.")
    assert masker.masked(mask("101")) == ["it's just not _ _ _ all."]
    masker = TextMasker(words, None, [[4, 2]], background=[0, 7])
    assert masker.players == ("just", "not smart", "very", "at", "all")
    assert masker.owner.tolist() == [-1, 0, 1, 2, 1, 3, 4, -1]
    assert masker.masked(mask("00000", "01000")) == ["it's.", "it's not smart."]
    (name,) = TextMasker(["long"] * 30, None, [range(30)]).players
    assert len(name) == 40
    assert name.endswith("…")


def test_tokens_of_any_tokenizer():
    pieces = ["un", "##believ", "##able", "film"]
    masker = TextMasker(pieces, "[MASK]", join=lambda tokens: " ".join(tokens).replace(" ##", ""))
    assert masker.masked(mask("1111", "1001")) == ["unbelievable film", "un [MASK] [MASK] film"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"words": []}, "there are no words; expected a text that is not blank"),
        ({"words": ["a", ""]}, "word 1 is empty"),
        ({"words": ["a", "b"], "text": "a c b"}, r"word 1 \('b'\) does not follow in the text"),
        ({"words": ["a", "b"], "text": "a b c"}, "the text goes on after the last word, with 'c'"),
        ({"words": ["a"], "groups": [[1]]}, "there is no item 1 for a group or the background; expected 0 to 0"),
        ({"words": ["a"], "text": "a", "join": "".join}, "text and join both say"),
    ],
)
def test_refused_texts(arguments, message):
    with pytest.raises(InputError, match=message):
        TextMasker(**{"baseline": None} | arguments)
    with pytest.raises(InputError, match="2 words cannot make 3 groups; expected 1 to 2"):
        group_words(["a", "b"], 3)


def picture(height: int = 12, width: int = 9) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_every_subset_of_a_picture_as_pixel_by_pixel():
    image, baseline = picture(), picture()[::-1].copy()
    segments = grid_segments(12, 9, 2, 2)
    segments[0, 0] = -1
    masker = ImageMasker(image, segments, baseline, grid_names(2, 2))
    assert masker.players == ("cell (1, 1)", "cell (1, 2)", "cell (2, 1)", "cell (2, 2)")
    pictures = masker.masked(all_masks(4))
    assert pictures.dtype == np.uint8
    for subset, seen in zip(all_masks(4), pictures, strict=True):
        for y, x in np.ndindex(12, 9):
            here = segments[y, x] < 0 or subset[segments[y, x]]
            assert np.array_equal(seen[y, x], (image if here else baseline)[y, x])
    assert ImageMasker(image, segments, baseline).players == ("segment 1", "segment 2", "segment 3", "segment 4")


def test_grids():
    assert grid_segments(3, 5, 2, 2).tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 1, 1], [2, 2, 2, 3, 3]]
    sizes = np.bincount(grid_segments(224, 224, 3, 5).ravel())
    assert len(sizes) == 15
    assert sizes.max() <= 75 * 45
    assert sizes.min() >= 74 * 44
    with pytest.raises(InputError, match="a picture of 3 x 5 pixels has no grid of 4 x 2 cells"):
        grid_segments(3, 5, 4, 2)


def test_slic_finds_what_has_one_colour():
    truth = np.kron(np.arange(6).reshape(2, 3), np.ones((16, 16), int))
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0], [0, 250, 250], [120, 120, 120]])
    image = colours[truth].astype(np.uint8)
    segments = slic_segments(image, 6)
    assert len(np.unique(segments)) == len(np.unique(np.stack([segments, truth]).reshape(2, -1), axis=1).T) == 6
    assert np.array_equal(slic_segments(image, 6), segments)
    for n in (1, 2, 5, 20):
        found = np.unique(slic_segments(picture(40, 30), n))
        assert found.tolist() == list(range(len(found)))
        assert len(found) <= n
    with pytest.raises(InputError, match="the number of segments must be at least 1, got 0"):
        slic_segments(image, 0)


def test_slic_without_scikit_image(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name.startswith("skimage"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r'need scikit-image: pip install "conceptry\[images\]"; or use a grid'):
        slic_segments(picture(), 4)


def test_baselines_of_a_picture():
    image = picture()
    mean = image_baseline(image, "mean")
    assert mean.shape == image.shape
    assert mean.dtype == np.uint8
    assert (mean == np.rint(image.reshape(-1, 3).mean(0))).all()
    blur = image_baseline(image, "blur")
    assert blur.shape == image.shape
    assert blur.std() < image.std() / 2
    with pytest.raises(InputError, match="baseline is 'black'; expected one of mean, blur"):
        image_baseline(image, "black")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": picture().astype(float)}, r"image must be uint8 of shape \(height, width, 3\), got float64"),
        ({"baseline": picture()[:5]}, r"needs a baseline of that shape and segments \(12, 9\), got \(5, 9, 3\)"),
        ({"segments": np.zeros((12, 8), int)}, r"segments \(12, 9\), got \(12, 9, 3\) and \(12, 8\)"),
        ({"segments": np.full((12, 9), 1)}, "segments must hold each of the players 0 to 0"),
        ({"segments": np.full((12, 9), -1)}, "there are no players"),
        ({"segments": np.zeros((12, 9))}, "segments must hold integers, .* got float64"),
        ({"players": ["a", "b"]}, "segments must hold each of the players 0 to 1"),
    ],
)
def test_refused_pictures(change, message):
    arguments = {"image": picture(), "baseline": picture(), "segments": np.zeros((12, 9), int)} | change
    with pytest.raises(InputError, match=message):
        ImageMasker(**arguments)


def test_clusters_of_points():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 20)
    points = (np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9]])[truth] + rng.normal(size=(60, 3))).astype(np.float32)
    clusters = cluster_points(points, 3, seed=4)
    assert np.array_equal(clusters, truth)
    assert np.array_equal(cluster_points(points, 3, seed=4), clusters)
    masker = PointMasker(points, clusters)
    assert masker.players == ("cluster 1", "cluster 2", "cluster 3")
    clouds = masker.masked(all_masks(3))
    assert clouds.dtype == np.float32
    for subset, cloud in zip(all_masks(3), clouds, strict=True):
        assert np.array_equal(cloud, np.where(subset[truth][:, None], points, points.mean(0)))
    with_background = PointMasker(points, np.where(truth == 2, -1, truth), np.zeros(3))
    assert np.array_equal(with_background.masked(mask("00"))[0], points * (truth == 2)[:, None])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.ones((4, 2))}, r"points must be floats of shape \(points, 3\), got float64 \(4, 2\)"),
        ({"points": np.full((4, 3), np.nan)}, "points: 4 of 4 are NaN or infinite"),
        ({"clusters": np.zeros(3, int)}, r"clusters must have shape \(4,\), one for each point, got \(3,\)"),
        ({"clusters": np.array([0, 2, 2, 0])}, r"clusters must hold each of the players 0 to 1, .* got \[0, 2\]"),
        ({"baseline": np.ones(2)}, "the baseline point must be 3 finite numbers"),
    ],
)
def test_refused_points(change, message):
    with pytest.raises(InputError, match=message):
        PointMasker(**{"points": np.eye(4, 3), "clusters": np.zeros(4, int)} | change)
    with pytest.raises(InputError, match="4 different points cannot make 5 clusters; expected 1 to 4"):
        cluster_points(np.eye(4, 3), 5, seed=0)


def test_every_subset_of_a_tensor_as_feature_by_feature():
    x, baseline = torch.arange(6.0).reshape(2, 3), -torch.ones(2, 3)
    owner = torch.tensor([[0, 1, -1], [1, 1, 0]])
    inputs = TensorMasker(x, baseline, owner, ["a", "b"]).masked(all_masks(2))
    for subset, seen in zip(all_masks(2), inputs, strict=True):
        here = torch.tensor([[k < 0 or bool(subset[k]) for k in row] for row in owner.tolist()])
        assert torch.equal(seen, torch.where(here, x, baseline))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.ones(3).long()}, "features must have a floating dtype, got torch.int64"),
        ({"baseline": torch.ones(2)}, r"must have one shape, got \(3,\), \(2,\) and \(3,\)"),
        ({"x": torch.tensor([1.0, torch.nan, torch.inf])}, "features: 2 of 3 are NaN or infinite"),
        ({"baseline": torch.tensor([1.0, torch.nan, 0])}, "baseline: 1 of 3 are NaN or infinite"),
        ({"owner": torch.tensor([0, 0, -1])}, r"owner must hold each of the players 0 to 1, .* got \[-1, 0\]"),
        ({"owner": torch.tensor([0, 1, 2])}, r"owner must hold each of the players 0 to 1, .* got \[0, 1, 2\]"),
    ],
)
def test_refused_tensors(change, message):
    arguments = {"x": torch.ones(3), "baseline": torch.ones(3), "owner": torch.tensor([0, 0, 1]), "players": "ab"}
    with pytest.raises(InputError, match=message):
        TensorMasker(**arguments | change)


def test_names_of_players():
    assert distinct(["a", "b", "a", "a (2)", "a"]) == ["a", "b", "a (3)", "a (2)", "a (4)"]
    assert check_players(f"p{k}" for k in range(20)) == tuple(f"p{k}" for k in range(20))
    with pytest.raises(InputError, match="two players are called 'a'; expected different names"):
        check_players(["a", "b", "a"])


@pytest.mark.parametrize("masks", [np.zeros((2, 3), int), np.zeros((2, 4), bool), np.zeros(3, bool)])
def test_refused_masks(masks):
    with pytest.raises(InputError, match=r"masks must be bool of shape \(batch, 3\), got "):
        presence(masks, np.array([0, 1, 2, -1]))
