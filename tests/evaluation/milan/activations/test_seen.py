"""What a dual encoder says that pictures show, beside what is known of scenes; pictures that chose nothing."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conceptry.evaluation.milan.activations.heldout import LEAST, heldout_images
from conceptry.evaluation.milan.activations.metrics import activation_report
from conceptry.evaluation.milan.activations.scenes import Scenes
from conceptry.evaluation.milan.activations.scores import RANGES, SCORES, auprc, correlation, sanity_tests
from conceptry.evaluation.milan.activations.seen import (
    SLOPE,
    THRESHOLD,
    SeenImages,
    class_text,
    fit,
    found_by_names,
    presence_of,
    standardised,
)
from conceptry.evaluation.milan.activations.units import Network, ScoredUnits, units_on
from conceptry.evaluation.milan.client import own_case
from conceptry.evaluation.milan.data import load_units, seen_by
from conceptry.evaluation.milan.metrics import EMOJI, embed_texts
from conceptry.models.errors import InputError
from conceptry.models.milan.emoji_units.planted import load_planted_units
from conceptry.models.milan.exemplars.sources import ArraySource, FolderSource
from conceptry.models.zoo.emoji_world.emoji import VOCABULARY
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    """Scenes of the seed that the rule was fitted on, which is not the one of an evaluation."""
    return Scenes(seed=7, size=700)


@pytest.fixture(scope="module")
def seen(scenes: Scenes) -> SeenImages:
    return SeenImages(scenes.source, EMOJI)


def test_presence_is_near_what_is_known_and_by_the_rule_that_it_states(scenes: Scenes, seen: SeenImages) -> None:
    c, known = seen.presence(VOCABULARY), scenes.presence(VOCABULARY)
    cosines = seen._embedded @ embed_texts(EMOJI, VOCABULARY).T
    j = VOCABULARY.index("dog")
    z = (cosines[:, j] - cosines[:, j].mean()) / cosines[:, j].std()
    assert np.allclose(c[:, j], 1 / (1 + np.exp(-SLOPE * (z - THRESHOLD))))
    each = [np.corrcoef(c[:, k], known[:, k])[0, 1] for k in range(len(VOCABULARY)) if known[:, k].any()]
    assert np.mean(each) > 0.75
    assert np.mean((c - known) ** 2) < 0.5 * known.mean() * (1 - known.mean())  # half of what the share alone leaves
    z = (cosines - cosines.mean(axis=0)) / cosines.std(axis=0)
    a, b = fit(z, known)
    assert (a, b) == (pytest.approx(SLOPE, abs=0.25), pytest.approx(-THRESHOLD, abs=0.15))


def test_a_description_that_the_encoder_does_not_read_is_shown_nowhere(seen: SeenImages) -> None:
    assert seen.names(["Dogs", "", "Nothing in particular"]).tolist() == [True, False, False]
    assert not seen.presence(["", "Nothing in particular"]).any()
    assert not seen.names([""]).any()
    assert not standardised(np.full((5, 1), 0.3)).any()  # all pictures are alike to it
    assert seen.constants(["Dogs", "", "Dogs", "Cats"]) == ["Dogs", "Cats"]


def test_the_scores_that_lead_notice_missing_and_extra_labels_in_estimates(scenes: Scenes, seen: SeenImages) -> None:
    units = load_planted_units()
    words = units.concepts["probes.layer3"]
    places = [("probes.layer3", i) for i in range(len(words))]
    scored = ScoredUnits(len(words), [Network(lambda: units, range(len(words)), places)], seen)
    a, c, known = scored.activations.mean, seen.presence(words), scenes.presence(words)
    shown = (c >= 0.5).any(axis=0)  # of a concept that is seen nowhere no label can be missing
    assert shown.mean() > 0.8
    for name, least in (("correlation", 0.95), ("auprc", 0.9)):
        found = sanity_tests(SCORES[name], a[:, shown], c[:, shown], RANGES[name])
        assert min(found.missing_labels, found.extra_labels) >= least
    for score in (correlation, auprc):  # units rank by estimates as they do by what is known
        one, other = (np.diag(score(a, each)) for each in (c, known))
        assert np.corrcoef(one, other)[0, 1] > 0.6
    report = activation_report(scored, list(words), list(words), {})
    assert report.notes[0].startswith(
        "what the 700 pictures show is estimated by zoo:emoji-clip, calibrated on the emoji"
    )
    table = report.tables["activation_scores"].set_index("describer")
    assert set(table["presence"]) == {"estimated by zoo:emoji-clip"}
    assert table.loc["this version", "correlation"] > table.loc["constant", "correlation"]
    assert report.metrics["cosy_auc"] > 0.8


def folder_of(root: Path, names: tuple[str, ...], count: int = 30) -> Path:
    """Scenes of one object, in a folder for each class."""
    drawn = EmojiScenes("heldout", 6000, 11, n_objects=1)
    found = {name: [i for i in range(6000) if name in drawn.concepts(i)][:count] for name in names}
    for name, rows in found.items():
        (root / name).mkdir(parents=True)
        for i in rows:
            Image.fromarray(drawn[i].image).save(root / name / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of(tmp_path_factory.mktemp("pictures"), ("dog", "bus", "banana"))


def test_names_of_class_folders_calibrate_where_they_find_their_pictures(folder: Path, tmp_path: Path) -> None:
    source = FolderSource(folder)
    found = SeenImages(source, EMOJI)
    (note,) = found.notes
    assert (
        "calibrated on class folders: the names of 3 class folders find their pictures with average precision" in note
    )
    cosines = found._embedded @ embed_texts(EMOJI, source.classes).T
    assert source.labels is not None
    y = np.eye(3)[source.labels]
    a, b = fit(cosines, y)
    assert a > 0
    assert np.allclose(found.presence(source.classes), presence_of(cosines, a, b))
    ones, zeros = y.sum(), (1 - y).sum()
    target = np.where(y > 0, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    near = [presence_of(cosines, *at) for at in ((a, b), (a, b + 0.01), (a, b - 0.01), (1.02 * a, b), (0.98 * a, b))]
    likelihood = [(target * np.log(c) + (1 - target) * np.log(1 - c)).sum() for c in near]
    assert likelihood[0] == max(likelihood)
    for name, other in zip(("dog", "bus", "banana"), ("banana", "dog", "bus"), strict=True):
        shutil.copytree(folder / name, tmp_path / "wrong" / other)
    (note,) = SeenImages(FolderSource(tmp_path / "wrong"), EMOJI).notes
    assert "calibrated on the emoji world" in note
    assert note.endswith("by chance: too little to calibrate on")
    shutil.copytree(folder / "dog", tmp_path / "strange" / "n02084071")
    shutil.copytree(folder / "bus", tmp_path / "strange" / "bus")
    (note,) = SeenImages(FolderSource(tmp_path / "strange"), EMOJI).notes
    assert note.endswith("it does not read the names of all 2 class folders")


def test_names_and_their_precision() -> None:
    assert [class_text(name) for name in ("a/fire_engine", "ice-cream", "dog")] == ["fire engine", "ice cream", "dog"]
    y = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], float)
    assert found_by_names(y, y) == (1, 0.5)
    assert found_by_names(np.full((4, 3), 0.5), y) == (0.5, 0.5)


def test_pictures_that_exemplars_were_chosen_from_are_left_out(folder: Path, tmp_path: Path) -> None:
    chosen = tmp_path / "chosen"
    chosen.mkdir()
    copied = sorted(folder.glob("*/*.png"))[:7]
    for k, file in enumerate(copied):
        shutil.copy(file, chosen / f"under another name {k}.png")
    source, notes = heldout_images(folder, {"data": f"folder:{chosen}"}, 0)
    assert {*source.files} == {*folder.glob("*/*.png")} - {*copied}
    assert notes == [f"7 pictures of {folder} left out: exemplars were chosen from folder:{chosen}"]
    assert heldout_images(folder, {"data": "zoo:emoji-scenes"}, 0)[1] == []
    with pytest.raises(InputError, match=f"holds 0 pictures that exemplars were not chosen from; expected {LEAST} or"):
        heldout_images(folder, {"data": f"folder:{folder}"}, 0)
    for data in ("squares", "folder:/nowhere"):
        _, (note,) = heldout_images(folder, {"data": data}, 0)
        assert note.startswith(f"exemplars were chosen from {data}, which cannot be read here")


def test_own_units_are_scored_on_a_folder(folder: Path, tmp_path: Path) -> None:
    params = {"model": "zoo:scenes", "data": "squares", "units": '{"layer4": [[0, 3]]}', "clip_encoder": EMOJI}
    data = load_units(f"folder:{folder}", params, None, 0)
    assert [case.key for case in data.cases] == ["layer4:0", "layer4:1", "layer4:2", "layer4:3"]
    report = activation_report(data.scored, [c.key for c in data.cases], ["Dogs", "Buses", "", "Bananas"], {})
    assert report.samples["correlation"].notna().all()
    assert report.samples["correlation"][2] == 0
    assert "is not known" in report.notes[1]
    again = units_on(SeenImages(FolderSource(folder), EMOJI), [own_case("layer4", 3)], params, 0)
    expected = correlation(again.activations.mean[:, 0], again.image_set.presence(["Bananas"])[:, 0])
    assert report.samples["correlation"][3] == pytest.approx(expected, abs=1e-6)
    named = load_units(seen_by(f"folder:{folder}", EMOJI), params | {"clip_encoder": "zoo:photos"}, None, 0)
    assert (named.name, named.encoder) == (f"folder:{folder}?encoder={EMOJI}", EMOJI)
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    before = load_units(f"folder:{other}", params, None, 0).digest
    changed = next(other.glob("dog/*.png"))
    Image.fromarray(255 - np.asarray(Image.open(changed))).save(changed)
    assert load_units(f"folder:{other}", params, None, 0).digest != before
    with pytest.raises(InputError, match="is estimated by a dual encoder, and the version has none; name one by"):
        load_units(f"folder:{folder}", {k: v for k, v in params.items() if k != "clip_encoder"}, None, 0)


def test_an_encoder_without_pictures_of_its_own_is_refused() -> None:
    params = {"model": "zoo:scenes", "data": "folder:photos", "units": '{"layer4": [[0, 0]]}', "clip_encoder": EMOJI}
    with pytest.raises(InputError, match="what pictures of folder:photos show is not known; give others by --data"):
        load_units(f"units:own?encoder={EMOJI}", params, None, 0).scored  # noqa: B018  # it looks for pictures
    with pytest.raises(InputError, match="milannotations:x#y: no network of its units is known, to be shown pictures"):
        load_units(seen_by("milannotations:x#y", EMOJI), params, None, 0)


def test_pictures_of_a_source_need_no_labels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3)).astype(np.uint8)
    found = SeenImages(ArraySource("noise", images), EMOJI, ["and so on"])
    assert found.notes[1:] == ("and so on",)
    assert found.drawn("dogs") is None
