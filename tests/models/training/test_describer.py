"""Training of describers: features once, the projection, the best epoch, going on after a kill, same bytes."""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors.torch import save

from conceptry.models.errors import InputError
from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.features import ProjectionFit, load_feature_encoder, read_projection
from conceptry.models.milan.describer.vocabulary import Vocabulary
from conceptry.models.milan.emoji_units.annotated import EmojiUnits
from conceptry.models.training import describer
from conceptry.models.training.checkpoints import Checkpoint
from conceptry.models.training.describer import (
    DescriberTraining,
    FeaturesOfImages,
    fit_projection,
    start_from_evidence,
    train_decoder,
    train_language_model,
)
from conceptry.models.training.feature_cache import FeatureCache, cache_features, read_feature_cache

WORDS = ("red", "blue", "green", "dogs", "cats", "trees")
TINY = DescriberTraining(
    hidden_size=24, embedding_size=12, attention_size=8, dropout=0.1, learning_rate=5e-3, batch_size=16, epochs=3,
    projection=True, evidence=True, lm_hidden_size=12, lm_embedding_size=8, lm_epochs=2, lm_learning_rate=5e-3,
)  # fmt: skip
VOCABULARY = Vocabulary(WORDS)


def toy(n: int, seed: int) -> FeatureCache:
    """Units of four words; the features of an exemplar are a mixture of one vector for each word, with noise."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(99).normal(size=(len(WORDS), 10))
    chosen = [sorted(rng.choice(len(WORDS), 4, replace=False).tolist()) for _ in range(n)]
    features = np.stack([directions[words].sum(axis=0) + 0.1 * rng.normal(size=(5, 10)) for words in chosen])
    captions = tuple((" ".join(WORDS[word] for word in words),) * 2 for words in chosen)
    return FeatureCache(features.astype(np.float16), captions)


@pytest.fixture(scope="module")
def data() -> tuple[FeatureCache, FeatureCache]:
    train, held_out = toy(160, 1), toy(30, 2)
    projection = fit_projection(train, VOCABULARY)
    return train.projected(projection), held_out.projected(projection)


def bytes_of(module: torch.nn.Module) -> bytes:
    return save(dict(module.state_dict()))


def test_a_decoder_learns_and_keeps_a_copy_of_the_best_epoch(data, monkeypatch):
    scores: list[float] = []
    weights: list[bytes] = []
    true_score = describer.validation_bleu

    # The last epoch is made out to be bad.
    def scored(decoder, *rest) -> float:
        weights.append(bytes_of(decoder))
        scores.append(true_score(decoder, *rest) if len(scores) != 2 else 0.0)
        return scores[-1]

    monkeypatch.setattr(describer, "validation_bleu", scored)
    seen: list[tuple[int, dict[str, float]]] = []
    decoder = train_decoder(*data, VOCABULARY, TINY, on_epoch=lambda *found: seen.append(found))
    assert [epoch for epoch, _ in seen] == [1, 2, 3]
    assert seen[-1][1]["nll"] < seen[0][1]["nll"]
    assert max(scores) > 40
    assert bytes_of(decoder) == weights[int(np.argmax(scores))] != weights[-1]
    assert not decoder.training


def test_training_twice_gives_the_same_bytes_and_other_seeds_others(data):
    first, second, other = (
        train_decoder(*data, VOCABULARY, dataclasses.replace(TINY, seed=seed, epochs=1)) for seed in (0, 0, 1)
    )
    assert bytes_of(first) == bytes_of(second) != bytes_of(other)


def test_patience_ends_a_training(data, monkeypatch):
    monkeypatch.setattr(describer, "validation_bleu", lambda *_: 1.0)
    epochs: list[int] = []
    settings = dataclasses.replace(TINY, epochs=50, patience=2)
    train_decoder(*data, VOCABULARY, settings, on_epoch=lambda epoch, _: epochs.append(epoch))
    assert epochs == [1, 2, 3]


class Killed(Exception):  # noqa: N818  # a signal
    pass


def test_a_killed_training_goes_on_to_the_same_bytes(data, tmp_path):
    whole = train_decoder(*data, VOCABULARY, TINY)

    def kill(epoch: int, _: object) -> None:
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train_decoder(*data, VOCABULARY, TINY, tmp_path / "state", on_epoch=kill)
    epochs: list[int] = []
    resumed = train_decoder(*data, VOCABULARY, TINY, tmp_path / "state", lambda epoch, _: epochs.append(epoch))
    assert epochs == [3]
    assert bytes_of(resumed) == bytes_of(whole)
    with pytest.raises(InputError, match="holds the state of a training with other settings, captions or words"):
        train_decoder(*data, VOCABULARY, dataclasses.replace(TINY, seed=4), tmp_path / "state")
    (tmp_path / "state" / "state.safetensors").write_bytes(bytes_of(whole))
    with pytest.raises(InputError, match=r"state\.safetensors: is no state of a training \(KeyError\)"):
        train_decoder(*data, VOCABULARY, TINY, tmp_path / "state")
    (tmp_path / "state" / "state.safetensors").rename(tmp_path / "state" / "other.safetensors")
    with pytest.raises(InputError, match=r"holds no state\.safetensors; expected the state of a training, or a new"):
        train_decoder(*data, VOCABULARY, TINY, tmp_path / "state")


def test_the_loss_is_that_of_the_paper():
    torch.manual_seed(0)
    decoder = Decoder(len(VOCABULARY), 7, 6, 5, dropout=0.0).double()
    features, tokens = torch.randn(3, 4, 7).double(), VOCABULARY.encode(["red dogs", "blue", "green cats trees"], 6)
    log_p, attention = decoder(features, tokens[:, :4])
    nll = [-log_p[i, t, tokens[i, t]] for i in range(3) for t in range(4) if tokens[i, t] != VOCABULARY.special.pad]
    spread = [(1 - sum(attention[i, t, j] for t in range(4))) ** 2 for i in range(3) for j in range(4)]
    found = describer._step(
        decoder, torch.optim.SGD(decoder.parameters(), lr=0.0), features, tokens, VOCABULARY.special.pad
    )
    assert found == pytest.approx([(sum(nll) / len(nll)).item(), (sum(spread) / len(spread)).item()])


def test_a_language_model_keeps_its_best_epoch_and_repeats(data, tmp_path):
    texts = [[text for captions in cache.captions for text in captions] for cache in data]
    seen: list[dict[str, float]] = []
    first = train_language_model(*texts, VOCABULARY, TINY, on_epoch=lambda _, values: seen.append(values))
    second = train_language_model(*texts, VOCABULARY, TINY, tmp_path / "state")
    assert bytes_of(first) == bytes_of(second)
    assert seen[1]["lm_validation_loss"] < seen[0]["lm_validation_loss"]
    with pytest.raises(InputError, match="captions to train on and others to validate on"):
        train_language_model([], texts[1], VOCABULARY, TINY)


def test_the_projection_is_ridge_regression_on_means(tmp_path):
    cache = toy(60, 3)
    fit = ProjectionFit()
    f = cache.batch(np.arange(60)).mean(dim=1)
    y = torch.tensor([[float(word in texts[0].split()) for word in WORDS] for texts in cache.captions])
    for start in (0, 20, 45):
        stop = {0: 20, 20: 45, 45: 60}[start]
        fit.add(f[start:stop], y[start:stop])
    found = fit.solve(ridge=0.1)
    x = (f - f.mean(dim=0)).double()
    std = x.pow(2).mean(dim=0).sqrt()
    literal = torch.linalg.solve(
        (x / std).T @ (x / std) / 60 + 0.1 * torch.eye(10).double(), (x / std).T @ y.double() / 60
    )
    z = (x / std) @ literal
    torch.testing.assert_close(found(f), (z / z.pow(2).mean(dim=0).sqrt()).float(), atol=1e-3, rtol=1e-3)
    found.save(tmp_path / "projection.safetensors")
    again = read_projection(tmp_path / "projection.safetensors")
    assert torch.equal(again.matrix, found.rounded().matrix)
    assert torch.equal(again.mean, found.rounded().mean)
    (tmp_path / "other.safetensors").write_bytes(save({"mean": torch.zeros(3)}))
    with pytest.raises(InputError, match=r"expected mean \(F,\) and matrix \(F, D\), got mean"):
        read_projection(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="needs features to be fitted on"):
        ProjectionFit().solve()


def test_a_start_from_evidence_says_each_word_once():
    torch.manual_seed(1)
    decoder = Decoder(len(VOCABULARY), len(WORDS), 32, 16, 8, dropout=0.0)
    start_from_evidence(decoder.eval())
    features = torch.zeros(1, 5, len(WORDS))
    features[:, :, 3] = 8.0
    log_p, _ = decoder(features, VOCABULARY.encode(["dogs dogs dogs"], 3))
    assert log_p[0, 0].argmax() == 3
    assert log_p[0, 2, 3] < log_p[0, 0, 3]
    with pytest.raises(InputError, match="a feature for each of the 6 words, got 5"):
        start_from_evidence(Decoder(len(VOCABULARY), 5, 32))
    with pytest.raises(InputError, match="a cell for each of the 6 words, hidden_size is 4"):
        start_from_evidence(Decoder(len(VOCABULARY), 6, 4))


def test_cached_features_are_those_of_the_pictures(tmp_path):
    units = EmojiUnits("train", 6, seed=2, k=5, pool=2048, kinds=("object", "colour"))
    encoder = load_feature_encoder("zoo:emoji-clip+surroundings", "cpu")
    shared, one_by_one = cache_features(encoder, units), cache_features(encoder, list(units))
    assert shared.features.shape == (6, 5, 1952)
    np.testing.assert_allclose(shared.features, one_by_one.features, atol=0.02)
    assert shared.captions == one_by_one.captions == tuple(unit.captions for unit in units)
    pictures = FeaturesOfImages(encoder, units, shared.captions)
    np.testing.assert_allclose(shared.batch(np.array([4, 1])), pictures.batch(np.array([4, 1])), atol=0.02)
    inside = load_feature_encoder("zoo:emoji-clip", "cpu")
    x = units[0].exemplars
    parts = [encoder(x.images[None], x.masks[None]), inside(x.images[None], x.masks[None])]
    assert torch.equal(parts[0][..., :16], parts[1][..., :16])  # a level: its mask, then what the mask leaves out
    outside = inside(x.images[None], 1 - x.masks[None])
    torch.testing.assert_close(parts[0][..., 16:32], outside[..., :16])
    shared.save(tmp_path / "cache")
    again = read_feature_cache(tmp_path / "cache")
    assert again.digest() == shared.digest() != one_by_one.projected(fit_of(shared)).digest()
    with pytest.raises(InputError, match=r"holds no features\.npy and captions\.json"):
        read_feature_cache(tmp_path)
    with pytest.raises(InputError, match="no annotated unit"):
        cache_features(encoder, [])
    projecting = encoder.projected(fit_of(shared))
    both = [cache_features(projecting, given).features for given in (units, list(units))]
    np.testing.assert_allclose(*both, rtol=0.01, atol=0.05)


def test_features_beyond_float16_are_refused():
    units = EmojiUnits("train", 2, k=4, pool=2048, kinds=("object",))
    encoder = load_feature_encoder("zoo:emoji-clip", "cpu")
    encoder.trunk[0].weight.data.mul_(1e9)
    encoder.trunk[1].running_var.fill_(1e-3)
    for given in (units, list(units)):
        with pytest.raises(InputError, match=r"zoo:emoji-clip: gives a feature of size .*; expected at most 65,504"):
            cache_features(encoder, given)


def fit_of(cache: FeatureCache):
    return fit_projection(cache, Vocabulary.from_captions([text for texts in cache.captions for text in texts]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs must be above 0, got 0"),
        ({"dropout": 1.0}, "dropout must be below 1"),
        ({"hidden_size": 1.5}, "hidden_size must be a whole number, got 1.5"),
        ({"cosine": 1}, "cosine must be true or false, got 1"),
        ({"evidence": True}, "set projection as well"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
    ],
)
def test_settings_that_cannot_be(values: dict, message: str):
    with pytest.raises(InputError, match=message):
        DescriberTraining(**values)


def test_no_captions(data):
    with pytest.raises(InputError, match="captions of training units and of validation units"):
        train_decoder(FeatureCache(data[0].features[:0], ()), data[1], VOCABULARY, TINY)


def test_a_checkpoint_without_a_folder_is_in_memory():
    module = torch.nn.Linear(2, 2)
    state = Checkpoint(None, "", module, torch.optim.AdamW(module.parameters()), patience=1)
    state.finish(1.0)
    with torch.no_grad():
        module.weight.zero_()
    state.finish(0.5)
    assert state.is_over
    state.restore_best()
    assert module.weight.abs().sum() > 0


def test_a_checkpoint_holds_the_best_epoch_and_survives_a_kill_while_it_is_written(tmp_path, monkeypatch):
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(module.parameters())

    def state() -> Checkpoint:
        return Checkpoint(tmp_path / "state", "", module, optimizer, patience=2)

    (tmp_path / "state").mkdir()  # of a run that got no further
    first = state()
    best = bytes_of(module)
    first.finish(1.0)
    with torch.no_grad():
        module.weight.zero_()
    last = bytes_of(module)
    first.finish(0.5)

    def kill(*_: object) -> None:
        raise Killed

    monkeypatch.setattr("os.replace", kill)
    with pytest.raises(Killed):
        first.finish(2.0)
    monkeypatch.undo()
    with torch.no_grad():
        module.weight.fill_(7)
    second = state()
    assert (second.epoch, second.best_epoch, second.best_score, second.is_over) == (2, 1, 1.0, False)
    assert bytes_of(module) == last
    second.finish(0.25)
    assert second.is_over
    second.restore_best()
    assert bytes_of(module) == best
