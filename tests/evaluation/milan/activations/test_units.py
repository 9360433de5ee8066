"""Scores of planted units, whose concepts are known: which scores are sound, which pictures are scored, what they show.

Two thousand scenes are drawn once, for all tests of this file; the rest is done with a few.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import nn

from conceptry.evaluation.milan.activations.metrics import METRICS, activation_report, describers_table
from conceptry.evaluation.milan.activations.scenes import SCORED, Scenes, render
from conceptry.evaluation.milan.activations.scores import RANGES, SCORES, auc, meta_auprc, sanity_tests
from conceptry.evaluation.milan.activations.units import (
    Network,
    ScoredUnits,
    own_units,
    pooled_activations,
    redrawn,
)
from conceptry.evaluation.milan.client import own_case
from conceptry.evaluation.milan.plots import draw_activation_scores
from conceptry.models.errors import InputError
from conceptry.models.milan.emoji_units.planted import COLOUR_UNITS, ColourUnits, load_planted_units
from conceptry.models.zoo.emoji_world.emoji import VOCABULARY
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes


@pytest.fixture(scope="module")
def words() -> list[str]:
    return [word for of_layer in load_planted_units().concepts.values() for word in of_layer]


@pytest.fixture(scope="module")
def planted() -> ScoredUnits:
    """All planted units, on as many pictures as versions are scored on."""
    units = load_planted_units()
    places = [(layer, i) for layer, of_layer in units.concepts.items() for i in range(len(of_layer))]
    return ScoredUnits(len(places), [Network(lambda: units, range(len(places)), places)], Scenes())


def test_the_scores_that_lead_are_sound_and_others_fail_as_published(planted: ScoredUnits, words: list[str]) -> None:
    a, c = planted.activations.mean, planted.image_set.presence(words)
    assert a.shape == (SCORED, 146)
    found = {name: sanity_tests(score, a, c, RANGES[name]) for name, score in SCORES.items()}
    for name in ("correlation", "auprc", "cosine"):
        assert min(found[name].missing_labels, found[name].extra_labels) >= 0.99
    for name in ("recall", "auc"):  # reward for saying more than is true
        assert found[name].missing_labels >= 0.99 > found[name].extra_labels
    assert sanity_tests(partial(auc, alpha=0.05), a, c).extra_labels < 0.7  # published: .592
    for name in ("mad", "cosy_auc", "cosy_mad"):  # do not notice that half of the pictures are not said
        assert found[name].extra_labels >= 0.99 > found[name].missing_labels
    assert found["mad"].missing_labels < 0.6  # published: .598


def test_the_scores_that_lead_rank_true_descriptions_first(planted: ScoredUnits, words: list[str]) -> None:
    a, c = planted.activations.mean, planted.image_set.presence(VOCABULARY)
    is_true = np.array([[word == other for other in VOCABULARY] for word in words])
    found = {name: meta_auprc(score(a, c), is_true) for name, score in SCORES.items()}
    assert min(found["correlation"], found["auprc"]) >= 0.95
    assert found["correlation"] > found["auc"]
    assert meta_auprc(SCORES["correlation"](planted.activations.maximum, c), is_true) > found["correlation"]


def test_a_random_network_does_not_respond_to_what_is_said_of_the_trained_one() -> None:
    units = load_planted_units()
    words = units.concepts["probes.layer3"][:40]
    places = [("probes.layer3", i) for i in range(len(words))]
    scored = ScoredUnits(len(words), [Network(lambda: units, range(len(words)), places)], Scenes(size=200))
    c = scored.image_set.presence(words)
    trained, random = (np.diag(SCORES["correlation"](a.mean, c)).mean() for a in (scored.activations, scored.random))
    assert abs(random) < 0.1
    assert trained > 0.4


@pytest.fixture(scope="module")
def few() -> ScoredUnits:
    """Three units of colours, and one without activations, on a hundred pictures."""
    places = [("units", COLOUR_UNITS.index(word)) for word in ("red", "green", "white")]
    return ScoredUnits(4, [Network(ColourUnits, [0, 1, 3], places)], Scenes(seed=3, size=100), seed=3)


def test_pictures_that_chose_something_are_not_scored(few: ScoredUnits) -> None:
    images = Scenes(seed=3, size=100).images
    rest = Scenes([np.moveaxis(images[i], -1, 0) for i in (4, 7)], seed=3, size=100)
    assert np.array_equal(rest.images, np.delete(images, (4, 7), axis=0))
    assert ScoredUnits(4, few.networks, rest).activations.mean.shape == (98, 4)
    exemplars = EmojiScenes("heldout", 100, 3)
    assert not {picture.tobytes() for picture in images} & {exemplars[i].image.tobytes() for i in range(100)}


def test_a_picture_has_a_concept_iff_it_shows_one_of_each_kind_that_is_named(few: ScoredUnits) -> None:
    scenes = EmojiScenes("heldout", 100, 10_003)
    shows = [set(scenes.concepts(i)) for i in range(100)]
    red, either = few.image_set.presence(["Red areas", "Red or blue areas"]).T
    assert red.tolist() == [float("red" in shown) for shown in shows]
    assert either.tolist() == [float(bool({"red", "blue"} & shown)) for shown in shows]
    both = few.image_set.presence(["Dogs and cats on striped backgrounds"])[:, 0]
    assert both.tolist() == [float(bool({"dog", "cat"} & shown) and "striped" in shown) for shown in shows]
    assert few.image_set.presence(["", "Nothing in particular"]).sum() == 0


def test_scenes_are_drawn_to_have_a_concept() -> None:
    red, again = (render(frozenset({"red", "plain"}), 4, 0) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(red, again, strict=True))
    r, g, b = np.median(np.stack(red), axis=(0, 1, 2))
    assert r > 1.5 * max(g, b)
    assert not np.array_equal(red[0], render(frozenset({"red", "plain"}), 4, 1)[0])


def test_maps_are_pooled_by_unit() -> None:
    image_set = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    net = nn.Sequential(nn.Identity(), nn.AvgPool2d(4))
    mean, maximum = pooled_activations(net, image_set, [("1", 2), ("0", 0), ("1", 1)])
    pixels = image_set / 255
    cells = pixels.reshape(5, 2, 4, 2, 4, 3).mean(axis=(2, 4))
    assert np.allclose(mean, np.stack([pixels[..., k].mean((1, 2)) for k in (2, 0, 1)], axis=1), atol=1e-6)
    expected = [cells[..., 2].max((1, 2)), pixels[..., 0].max((1, 2)), cells[..., 1].max((1, 2))]
    assert np.allclose(maximum, np.stack(expected, axis=1), atol=1e-6)


def test_parameters_are_drawn_anew_by_the_seed_in_a_copy() -> None:
    net = nn.Conv2d(3, 400, 3).requires_grad_(False)
    before = net.weight.clone()
    one, same, other = (redrawn(net, seed) for seed in (0, 0, 1))
    assert one is not None
    assert same is not None
    assert other is not None
    assert torch.equal(net.weight, before)
    assert redrawn(nn.Linear(1, 1, bias=False), 0) is not None
    assert torch.equal(one.weight, same.weight)
    assert not torch.equal(one.weight, other.weight)
    assert one.weight.std().item() == pytest.approx(before.std().item(), rel=0.05)
    assert abs(np.corrcoef(one.weight.flatten().numpy(), before.flatten().numpy())[0, 1]) < 0.05
    assert redrawn(ColourUnits(), 0) is None
    planted = load_planted_units()
    random = redrawn(planted, 0)
    assert random is not None
    assert not torch.equal(next(random.trunk.parameters()), next(planted.trunk.parameters()))


def report_of(few: ScoredUnits, texts: Sequence[str]):
    return activation_report(few, ["a", "b", "c", "d"], texts, {"clip_dissect": ["red", "green", "dog", "blue"]})


def test_a_report_says_of_each_unit_what_its_activations_say(few: ScoredUnits) -> None:
    report = report_of(few, ["Red areas", "", "The colour red", "White areas or green areas"])
    found = report.samples.set_index("sample")
    assert found.index.tolist() == ["a", "b", "c", "d"]
    assert found.loc["c"].isna().all()  # it has no activations
    assert found.loc["b", ["correlation", "auprc", "cosy_auc", "cosy_mad"]].tolist() == [0, 0, 0.5, 0]
    a, c = few.activations.mean, few.image_set.presence(["red", "red", "red", "white or green"])
    assert found.loc["a", "correlation"] == pytest.approx(np.corrcoef(a[:, 0], c[:, 0])[0, 1])
    assert found.loc["d", "correlation"] == pytest.approx(np.corrcoef(a[:, 3], c[:, 3])[0, 1])
    active = a[:, 0] >= np.sort(a[:, 0])[-2]
    assert found.loc["a", "auprc"] == pytest.approx(average_precision_score(active, c[:, 0]))
    drawn, _ = pooled_activations(ColourUnits(), np.stack(render(frozenset({"red"}), 10, 3)), [("units", 0)])
    controls = a[c[:, 0] == 0, 0]
    both, label = np.concatenate([drawn[:, 0], controls]), np.repeat([1, 0], [10, len(controls)])
    assert found.loc["a", "cosy_auc"] == pytest.approx(roc_auc_score(label, both))
    spread = controls.std(ddof=1)
    assert found.loc["a", "cosy_mad"] == pytest.approx((drawn.mean() - controls.mean()) / spread)
    assert found.loc["b", "clip_dissect_correlation"] > 0.5
    assert set(report.metrics) <= set(METRICS)
    assert report.metrics["correlation"] == pytest.approx(found["correlation"].mean())
    assert not {"correlation_random", "auprc_random"} & set(report.metrics)  # arithmetic has no parameters


def test_the_constant_is_the_best_single_word_and_others_units_descriptions_do_worse(few: ScoredUnits) -> None:
    report = report_of(few, ["red", "green", "", "white"])
    a, c = few.activations.mean[:, [0, 1, 3]], few.image_set.presence(VOCABULARY)
    by_word = np.array([np.mean([np.corrcoef(unit, word)[0, 1] for unit in a.T]) if word.any() else 0 for word in c.T])
    assert report.metrics["constant_correlation"] == pytest.approx(by_word.max())
    assert report.metrics["correlation"] > report.metrics["constant_correlation"]
    assert report.metrics["correlation"] > report.metrics["correlation_shuffled"]
    table = report.tables["activation_scores"].set_index("describer")
    assert table.index.tolist() == ["this version", "CLIP-Dissect", "constant", "shuffled"]
    assert VOCABULARY[int(by_word.argmax())] in table.loc["constant", "says"]
    assert table.loc["this version", "units"] == 3
    low, mean, high = table.loc["this version", ["correlation_low", "correlation", "correlation_high"]]
    assert low < mean < high
    drawn = [text.get_text() for text in draw_activation_scores(report.tables["activation_scores"]).texts]
    assert {"this version", "CLIP-Dissect", "Correlation", "CoSy's MAD", f"{mean:.3f}"} <= set(drawn)
    assert describers_table(report.samples.loc[:, ["sample"]], {}).empty


def test_own_units_are_scored_where_their_pictures_are_scenes() -> None:
    params = {"model": "zoo:scenes", "data": "zoo:emoji-scenes", "explained_sha256": "0" * 64}
    with pytest.raises(InputError, match="describes the units of other weights than those of zoo:scenes"):
        own_units([own_case("layer4", 0)], params, 0).activations  # noqa: B018  # it loads the network
    with pytest.raises(InputError, match="what pictures of folder:x show is not known; give others by --data folder:P"):
        own_units([own_case("layer4", 0)], params | {"data": "folder:x"}, 0)
