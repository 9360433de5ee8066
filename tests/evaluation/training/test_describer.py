"""`conceptry train milan`, made small: the same bytes twice, a folder that describes, a run in MLflow."""

from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest

from conceptry.evaluation.training.describer import EMOJI, EmojiData, run, run_annotations, train_command
from conceptry.evaluation.training.fitting import Work
from conceptry.evaluation.training.tracking import EXPERIMENT, Log, tracked
from conceptry.models.errors import InputError
from conceptry.models.folders import locked
from conceptry.models.manifest import read_json, sha256_file
from conceptry.models.milan.describer.describer import load_describer
from conceptry.models.milan.describer.features import load_feature_encoder
from conceptry.models.milan.emoji_units.annotated import EmojiUnits
from conceptry.models.milan.emoji_units.planted import COLOUR_UNITS, load_planted_units
from conceptry.models.shipped import weights_directory
from conceptry.models.training.describer import DescriberTraining

DATA = EmojiData(units=150, validation=20, held_out=10, draws=2, n_objects=24, pool=2048, scenes=0)
SETTINGS = replace(EMOJI, epochs=1, hidden_size=96, embedding_size=32, lm_hidden_size=16, lm_embedding_size=16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("train") / "describer"
    state = directory.with_name("state")
    run(SETTINGS, DATA, directory, tracking=False, command="conceptry train milan", state=state)
    return directory


def test_a_small_training_leaves_a_describer_and_its_provenance(folder: Path):
    provenance = read_json(folder / "provenance.json")
    assert provenance["scores"].keys() == provenance["score_definitions"].keys()
    draws = [scores["property_set_single"] for scores in provenance["scores_by_draw"]]
    assert len(draws) == 2
    assert provenance["scores"]["property_set_single"] == pytest.approx(sum(draws) / 2)
    assert {"train", "validation", "heldout-1", "heldout-2"} == provenance["data_sha256"].keys()
    for name, digest in provenance["sha256"].items():
        assert sha256_file(folder / name) == digest
    units = EmojiUnits("heldout", 2, pool=2048, kinds=("object",))
    exemplars = [unit.exemplars for unit in units]
    describer = load_describer(f"describer:{folder}", "cpu")
    found = describer.describe(np.stack([x.images for x in exemplars]), np.stack([x.masks for x in exemplars]))
    assert [type(description.text) for description in found] == [str, str]  # so short a training says little


def test_it_repeats_byte_for_byte_from_kept_features_and_is_logged(folder: Path, tmp_path, store):
    state = folder.with_name("state")
    for part in ("decoder", "language_model"):
        assert (state / part / "state.safetensors").is_file()
    for part in ("decoder", "language_model"):  # trained anew, from the features that were kept
        for file in (state / part).iterdir():
            file.unlink()
        (state / part).rmdir()
    run(SETTINGS, DATA, tmp_path / "again", state=state)
    for file in folder.iterdir():
        if file.name != "provenance.json":
            assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name
    logged = mlflow.search_runs(experiment_names=[EXPERIMENT], output_format="list")[0]
    assert logged.data.params["epochs"] == "1"
    assert {"nll", "validation_bleu", "lm_loss", "property_set"} <= logged.data.metrics.keys()
    with pytest.raises(InputError, match="holds features of other units or another encoder"):
        run(SETTINGS, replace(DATA, seed=5), tmp_path / "other", tracking=False, state=state)
    with pytest.raises(InputError, match="exists already"):
        run(SETTINGS, DATA, folder, tracking=False)
    with (
        locked(state, "something"),
        pytest.raises(InputError, match="another run is writing the state of a training there"),
    ):
        run(SETTINGS, DATA, tmp_path / "other", tracking=False, state=state)


def test_any_annotated_units_train_a_describer(tmp_path):
    units = list(EmojiUnits("train", 20, k=5, pool=2048, kinds=("object", "colour")))
    settings = DescriberTraining(
        hidden_size=16, embedding_size=8, epochs=1, lm_hidden_size=8, lm_embedding_size=8, lm_epochs=1
    )
    state = tmp_path / "state"
    provenance = run_annotations(settings, units, "zoo:emoji-clip", tmp_path / "describer", tracking=False, state=state)
    assert provenance["data"] == "annotated units: 18 units to train on, 2 held out"
    assert load_describer(f"describer:{tmp_path / 'describer'}", "cpu").encoder.n_features == 976
    with pytest.raises(InputError, match="holds features of other units"):
        run_annotations(
            settings, units, "zoo:emoji-clip", tmp_path / "other", tracking=False, state=state, units_sha256="others"
        )
    with pytest.raises(InputError, match="at least 2 annotated units, got 1"):
        run_annotations(settings, units[:1], "zoo:emoji-clip", tmp_path / "other", tracking=False)


def test_kept_features_are_of_the_weights_of_the_encoder(tmp_path):
    units = list(EmojiUnits("train", 2, k=4, pool=2048, kinds=("object",)))
    work = Work(tmp_path / "describer", tmp_path / "state", Log(), lambda what, share: None)
    encoder = load_feature_encoder("zoo:emoji-clip", "cpu")
    kept = work.cached(encoder, units, "train", {})
    assert (work.cached(encoder, units, "train", {}).features == kept.features).all()
    next(encoder.trunk.parameters()).mul_(2)
    with pytest.raises(InputError, match="or another encoder; name a new folder"):
        work.cached(encoder, units, "train", {})


def test_published_annotations_train_a_describer(tmp_path, store):
    folder = tmp_path / "alexnet" / "places365"
    (folder / "conv1").mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.save(folder / "conv1" / "masks.npy", rng.integers(0, 2, (5, 2, 1, 32, 32)).astype(np.uint8))
    np.save(folder / "conv1" / "images.npy", rng.integers(0, 256, (5, 2, 3, 32, 32)).astype(np.uint8))
    rows = [["conv1", unit, f"text {number}"] for unit in range(4) for number in range(3)]
    lines = [["layer", "unit", "summary"], *rows, ["conv1", 4, "one only"], ["conv1", 9, "of no exemplars"]]
    (folder / "annotations.csv").write_text("".join(f"{a},{b},{c}\n" for a, b, c in lines))
    told = train_command(
        tmp_path / "describer", annotations=f"{tmp_path}#alexnet/places365", encoder="zoo:emoji-clip", epochs=1
    )
    assert "units with fewer than 3 annotations, which are left out: 1" in told
    assert "1 annotated units have no exemplars, such as unit 9 of layer conv1" in told
    provenance = read_json(tmp_path / "describer" / "provenance.json")
    assert provenance["data"] == "milannotations:alexnet/places365: 3 units to train on, 1 held out"
    options = "--epochs 1 --annotations ROOT#alexnet/places365 --encoder zoo:emoji-clip"
    assert provenance["command"] == f"conceptry train milan --output FOLDER {options}"


def test_a_run_shows_the_scores_of_what_was_kept(tmp_path, store):
    (tmp_path / "provenance.json").write_text("{}")
    with tracked("milan", {}, True) as log:
        log.losses(1, {"validation_bleu": 5.0})
        log.losses(2, {"validation_bleu": 3.0})
        log.finish({"validation_bleu": 5.0}, tmp_path / "provenance.json")
    logged = mlflow.search_runs(experiment_names=[EXPERIMENT], output_format="list")[0]
    assert logged.data.metrics == {"validation_bleu": 5.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"annotations": "x#base"}, "--annotations needs --encoder"),
        ({"annotations": "x#base", "small": True}, "--small and --units choose units of the emoji world"),
        ({"encoder": "zoo:emoji-clip"}, "--encoder and --imagenet need --annotations"),
        ({"probes": True, "units": 5}, "--probes can only be combined with --seed"),
        ({"small": True, "state": "SAME"}, "expected another folder than --output"),
    ],
)
def test_options_that_do_not_go_together(options: dict, message: str, tmp_path):
    if options.get("state"):
        options = options | {"state": tmp_path / "describer"}
    with pytest.raises(InputError, match=message):
        train_command(tmp_path / "describer", **options)
    assert not (tmp_path / "describer").exists()


def test_what_ships_meets_what_it_is_trained_for():
    folder = weights_directory("emoji-milan", "describer")
    scores = read_json(folder / "provenance.json")["scores"]
    assert scores["property_set"] >= 0.67
    assert scores["planted"] >= 0.85
    assert scores["planted_shuffled"] < 0.05
    assert scores["colour_units"] == 1
    shipped = [folder, weights_directory("emoji-clip"), weights_directory("emoji-probes", "probes")]
    assert sum(file.stat().st_size for part in shipped for file in part.iterdir()) < 20e6
    for part in shipped:
        for name, digest in read_json(part / "provenance.json")["sha256"].items():
            assert sha256_file(part / name) == digest


def test_planted_neurons_are_of_many_concepts():
    units = load_planted_units()
    assert len(set(units.truths.values())) == len(units.truths) >= 131
    assert set(COLOUR_UNITS) <= set(units.truths.values())
