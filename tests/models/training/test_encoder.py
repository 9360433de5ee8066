"""A small training from start to end: it learns, it repeats byte for byte, it leaves a whole folder or none."""

import re
from pathlib import Path

import mlflow
import pytest
import torch

from conceptry.evaluation.training import encoder
from conceptry.evaluation.training.encoder import DEFINITIONS, EXPERIMENT, distinct_scenes, run, score_encoder
from conceptry.models.errors import InputError
from conceptry.models.manifest import sha256_file
from conceptry.models.training.encoder import (
    CONTEXT_LENGTH,
    EncoderTraining,
    TextTower,
    build_model,
    model_config,
    train_encoder,
)

TINY = EncoderTraining(n_objects=24, steps=4, batch_size=8, mean_scenes=16)


def test_the_same_settings_give_the_same_bytes(tmp_path: Path):
    before = torch.get_rng_state()
    digests = []
    for name in ("first", "second"):
        train_encoder(TINY, tmp_path / name)
        digests.append({path.name: sha256_file(path) for path in (tmp_path / name).iterdir()})
    assert digests[0] == digests[1]
    assert torch.equal(torch.get_rng_state(), before)  # no global generator was touched
    train_encoder(EncoderTraining(n_objects=24, steps=4, batch_size=8, mean_scenes=16, seed=1), tmp_path / "third")
    weights = "open_clip_model.safetensors"
    assert sha256_file(tmp_path / "third" / weights) != digests[0][weights]


def test_steps_are_reported(tmp_path: Path):
    seen = []
    train_encoder(TINY, tmp_path / "encoder", lambda step, values: seen.append((step, set(values))))
    names = {"loss", "caption_loss", "word_loss", "sum_loss", "overlap_loss"}
    assert seen == [(step, names) for step in (1, 2, 3, 4)]


def test_a_run_is_logged_without_touching_the_active_run(tmp_path: Path, store: str):
    run(TINY, tmp_path / "encoder", n_scored=10)
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient(store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    [logged] = client.search_runs([experiment.experiment_id], "attributes.run_name = 'emoji-clip'")
    assert logged.info.status == "FINISHED"
    assert logged.data.params["n_objects"] == "24"
    assert set(DEFINITIONS) <= set(logged.data.metrics)
    assert [m.step for m in client.get_metric_history(logged.info.run_id, "word_loss")] == [1, 4]
    assert [file.path for file in client.list_artifacts(logged.info.run_id)] == ["provenance.json"]


def test_a_training_that_breaks_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def killed(settings: EncoderTraining, directory: Path, on_step: object) -> None:
        directory.mkdir()
        (directory / "open_clip_model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder, "train_encoder", killed)
    with pytest.raises(KeyboardInterrupt):
        run(TINY, tmp_path / "encoder", tracking=False, n_scored=10)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(tmp_path: Path):
    with pytest.raises(InputError, match="exists already; name a new folder"):
        run(TINY, tmp_path, tracking=False)


def test_too_many_scenes_to_score_are_refused_before_training(tmp_path: Path):
    with pytest.raises(InputError, match="n_scenes must be at most 512 for these 24 objects, got 600"):
        run(TINY, tmp_path / "encoder", tracking=False, n_scored=600)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_objects": 5}, "n_objects must be from 12 to 136, got 5"),
        ({"steps": 0}, "steps must be above 0, got 0"),
        ({"steps": 1.5}, "steps must be a whole number, got 1.5"),
        ({"steps": True}, "steps must be a whole number, got True"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"two_objects": 1.5}, "two_objects must be from 0 to 1, got 1.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
    ],
)
def test_wrong_settings_are_refused(values: dict, message: str):
    with pytest.raises(InputError, match=re.escape(message)):
        EncoderTraining(**values)


def test_scored_scenes_are_distinct_and_their_number_is_checked():
    scenes = distinct_scenes(EncoderTraining().objects, 500)
    assert len({frozenset(scene.concepts) for scene in scenes}) == 500
    with pytest.raises(InputError, match="n_scenes must be at most"):
        distinct_scenes(EncoderTraining(n_objects=24).objects, 700)


def test_scoring_a_folder_that_is_no_encoder(tmp_path: Path):
    with pytest.raises(InputError, match=r"holds no open_clip_model\.safetensors"):
        score_encoder(tmp_path)


def test_short_texts_embed_as_in_open_clip():
    model = build_model(model_config(50, embed_dim=16, width=8, text_width=32, text_layers=2), seed=0).eval()
    tokens = torch.zeros(3, CONTEXT_LENGTH, dtype=torch.long)
    tokens[0, :3] = torch.tensor([48, 7, 49])
    tokens[1, :6] = torch.tensor([48, 9, 3, 4, 5, 49])
    tokens[2, :2] = torch.tensor([48, 49])
    assert torch.allclose(TextTower(model)(tokens), model.encode_text(tokens, normalize=True), atol=1e-6)
