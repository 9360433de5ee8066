"""SpLiCE around the solver: dictionary, centring, recomposition, interventions, loaders; against literal formulas."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from conceptry.models import splice
from conceptry.models.encoders.protocol import encode_texts
from conceptry.models.errors import InputError, VocabularyWarning
from conceptry.models.splice.dictionary import load_mean_file, load_text_mean
from conceptry.models.splice.settings import SpliceOptions

D, N_WORDS = 32, 50
WORDS = [f"word{i}" for i in range(N_WORDS)]


class OwnEncoder:
    """A user's own object: no class of ours, only the two methods."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.table = torch.randn(N_WORDS, D, generator=generator) + 0.5
        self.projection = torch.randn(3 * 4 * 4, D, generator=generator)
        self.calls = 0

    def encode_image(self, pixels: Tensor) -> Tensor:
        return pixels.flatten(1) @ self.projection + 0.7

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        self.calls += 1
        return torch.stack([self.table[int(text.removeprefix("word"))] for text in texts])


@pytest.fixture
def encoder() -> OwnEncoder:
    return OwnEncoder()


@pytest.fixture
def pixels() -> Tensor:
    return torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def model(encoder: OwnEncoder, pixels: Tensor) -> splice.Splice:
    dictionary = splice.build_dictionary(encoder, WORDS)
    mean = splice.mean_embedding(encoder.encode_image(pixels))
    text_mean = splice.mean_embedding(encoder.encode_text(WORDS))
    return splice.Splice(encoder, WORDS, dictionary, mean, text_mean, l1_penalty=0.2)


def literal(z_raw: np.ndarray, dictionary: np.ndarray, mean: np.ndarray, l1_penalty: float):
    """The definition, one embedding at a time in float64, solved by scikit-learn."""
    from sklearn.linear_model import Lasso

    weights, recomposed = [], []
    for row in z_raw:
        z = row / np.linalg.norm(row)
        v = z - mean
        v /= np.linalg.norm(v)
        lasso = Lasso(alpha=l1_penalty / (2 * len(v)), fit_intercept=False, positive=True, max_iter=10_000, tol=1e-10)
        w = lasso.fit(dictionary.T, v).coef_
        direction = w @ dictionary
        norm = np.linalg.norm(direction)
        total = (direction / norm if norm else direction) + mean
        weights.append(w)
        recomposed.append(total / np.linalg.norm(total))
    return np.stack(weights), np.stack(recomposed)


def test_the_dictionary_is_centred_and_of_unit_norm(encoder: OwnEncoder) -> None:
    dictionary = splice.build_dictionary(encoder, WORDS, batch_size=20)
    assert encoder.calls == 3  # in batches, not one word at a time
    rows = encoder.table.double().numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    centred = unit - unit.mean(axis=0)
    expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    assert np.abs(dictionary.numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("modality", ["image", "text"])
def test_explanations_equal_the_literal_definition(model: splice.Splice, pixels: Tensor, modality) -> None:
    assert model.encoder is not None
    raw = model.encoder.encode_image(pixels) if modality == "image" else model.encoder.encode_text(WORDS[:6])
    explained = model.explain(raw, modality)
    mean = model.means[modality]
    assert mean is not None
    weights, recomposed = literal(
        raw.double().numpy(), model.dictionary.double().numpy(), mean.double().numpy(), model.l1_penalty
    )
    assert np.abs(explained.decomposition.to_dense().numpy() - weights).max() < 1e-4
    assert np.abs(explained.recomposed.numpy() - recomposed).max() < 1e-4
    z = torch.nn.functional.normalize(raw, dim=1)
    assert torch.allclose(explained.cosine, (z * explained.recomposed).sum(1))
    assert explained.gap.max() <= 1e-6


def test_autocast_changes_no_explanation(model: splice.Splice, pixels: Tensor) -> None:
    assert model.encoder is not None
    raw = model.encoder.encode_image(pixels)
    expected = model.explain(raw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        explained = model.explain(raw)
    assert torch.equal(explained.decomposition.to_dense(), expected.decomposition.to_dense())
    assert torch.equal(explained.recomposed, expected.recomposed)


def test_rows_of_both_modalities_in_one_batch(model: splice.Splice, pixels: Tensor) -> None:
    assert model.encoder is not None
    images, texts = model.encoder.encode_image(pixels), model.encoder.encode_text(WORDS[:2])
    both = model.explain(torch.cat([texts, images]), ["text"] * 2 + ["image"] * 7)
    assert torch.allclose(both.recomposed[:2], model.explain(texts, "text").recomposed, atol=1e-5)
    assert torch.allclose(both.recomposed[2:], model.explain(images, "image").recomposed, atol=1e-5)


def test_a_penalty_above_every_correlation_gives_the_mean_not_nan(model: splice.Splice, pixels: Tensor) -> None:
    assert model.encoder is not None
    explained = model.explain(model.encoder.encode_image(pixels), l1_penalty=3.0)
    assert explained.decomposition.l0.tolist() == [0] * 7
    mean = model.means["image"]
    assert mean is not None
    assert torch.allclose(explained.recomposed, torch.nn.functional.normalize(mean, dim=0).expand(7, -1))


def test_interventions_remove_words_by_name_or_index(model: splice.Splice, pixels: Tensor) -> None:
    assert model.encoder is not None
    raw = model.encoder.encode_image(pixels)
    plain = model.explain(raw)
    strongest = int(plain.decomposition.row(0)[0][0])
    removed = model.explain(raw, suppress=[WORDS[strongest]])
    dense = plain.decomposition.to_dense().clone()
    dense[:, strongest] = 0
    assert torch.equal(removed.decomposition.to_dense(), dense)
    assert torch.allclose(removed.recomposed, model.recompose_image(dense), atol=1e-6)
    assert torch.allclose(model.intervene_image(pixels, [strongest]), removed.recomposed)
    assert torch.equal(removed.gap, plain.gap)  # the certificate is that of the solve
    with pytest.raises(InputError, match="'word5x' is not one of the 50 words of the vocabulary; near words: word5"):
        model.explain(raw, suppress=["word5x"])


def test_the_interface_of_the_published_implementation(model: splice.Splice, pixels: Tensor) -> None:
    recomposed, none = model(pixels)
    assert none is None
    assert torch.allclose(recomposed, model.encode_image(pixels))
    model.return_weights = True
    weights = model.encode_image(pixels)
    assert weights.shape == (7, N_WORDS)
    assert torch.allclose(model.recompose_image(weights), recomposed, atol=1e-6)
    assert torch.allclose(model.recompose_image(weights.to_sparse()), recomposed, atol=1e-6)
    assert model.encode_text(WORDS[:2]).shape == (2, N_WORDS)
    assert model.recompose_text(model.encode_text(WORDS[:2])).shape == (2, D)
    assert splice.decompose_image(pixels[0], model).l0 == (weights[0] > 0).sum()


def test_means_over_a_loader_are_exact_whatever_the_batches(model: splice.Splice, pixels: Tensor) -> None:
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 2])
    assert model.encoder is not None
    explained = model.explain(model.encoder.encode_image(pixels))
    dense = explained.decomposition.to_dense()

    def batches(size: int):
        return [(pixels[i : i + size], labels[i : i + size]) for i in range(0, 7, size)]

    for size in (1, 3, 7):
        summary = splice.decompose_dataset(batches(size), model)
        assert torch.allclose(summary.weights, dense.mean(0), atol=1e-6)
        assert summary.l0 == pytest.approx(explained.decomposition.l0.double().mean().item())
        assert summary.cosine == pytest.approx(explained.cosine.double().mean().item(), abs=1e-6)
        assert summary.count == 7
        by_class = splice.decompose_classes(batches(size), model)
        assert [by_class[label].count for label in (0, 1, 2)] == [3, 3, 1]
        assert torch.allclose(by_class[2].weights, dense[6], atol=1e-6)  # a class of one image keeps its shape
        assert splice.decompose_classes(batches(size), model, target_label=1)[1].l0 == by_class[1].l0
    with pytest.raises(InputError, match="no images of class 9"):
        splice.decompose_classes(batches(3), model, target_label=9)
    with pytest.raises(InputError, match="the loader holds no images"):
        splice.decompose_dataset([], model)
    top = by_class[2].top(WORDS, 3)
    assert [weight for _, weight in top] == sorted((weight for _, weight in top), reverse=True)


@pytest.mark.parametrize(
    ("value", "message"),
    [(float("nan"), "holds NaN or infinite values"), (float("inf"), "holds NaN"), (0.0, "is the zero vector")],
)
def test_bad_embeddings_are_named_by_row(model: splice.Splice, value: float, message: str) -> None:
    embeddings = torch.ones(3, D)
    embeddings[1] = value
    with pytest.raises(InputError, match=f"row 1: the embedding {message}"):
        model.decompose(embeddings)
    with pytest.raises(InputError, match=r"must have shape \(batch, 32\), got \(3, 31\)"):
        model.decompose(torch.ones(3, 31))


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        *((torch.float32, scale) for scale in (1e-40, 1e-20, 1e20, 1e37)),
        (torch.float64, 1e-300),
        (torch.float64, 1e300),
    ],
)
def test_the_scale_of_an_embedding_does_not_matter(model: splice.Splice, dtype: torch.dtype, scale: float) -> None:
    raw = torch.randn(4, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    expected, got = model.explain(raw), model.explain((raw * scale).to(dtype))
    # 1e-40 has about five digits in float32
    assert torch.allclose(got.embedding, expected.embedding, atol=1e-4 if scale == 1e-40 else 1e-6)
    assert torch.allclose(got.recomposed, expected.recomposed, atol=1e-3)


def test_parts_that_do_not_fit_are_refused(encoder: OwnEncoder, tmp_path: Path) -> None:
    dictionary = splice.build_dictionary(encoder, WORDS)
    with pytest.raises(InputError, match="the vocabulary has 49 words, the dictionary 50 rows"):
        splice.Splice(encoder, WORDS[1:], dictionary)
    with pytest.raises(InputError, match=r"image_mean must have shape \(32,\)"):
        splice.Splice(encoder, WORDS, dictionary, torch.zeros(31))
    with pytest.raises(InputError, match="no text mean"):
        splice.Splice(encoder, WORDS, dictionary, torch.zeros(D)).encode_text(["word1"])
    with pytest.raises(InputError, match="has no encoder"):
        splice.Splice(None, WORDS, dictionary, torch.zeros(D)).encode_image(torch.zeros(1, 3, 4, 4))
    with pytest.raises(InputError, match=r"'word0' .* equals the mean"):
        splice.build_dictionary(encoder, ["word0"])
    encoder.table[3] = float("nan")
    with pytest.raises(InputError, match=r"'word3' .* zero or not finite"):
        splice.build_dictionary(encoder, WORDS)


def test_mean_files_are_read_without_running_anything(tmp_path: Path) -> None:
    import pickle

    mean = torch.arange(4.0)
    torch.save(mean[None], tmp_path / "mean.pt")
    assert torch.equal(load_mean_file(tmp_path / "mean.pt"), mean)

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    torch.save(Evil(), tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(InputError, match="with one tensor"):
            load_mean_file(tmp_path / name)
    assert not (tmp_path / "executed").exists()
    torch.save(torch.zeros(2, 3), tmp_path / "matrix.pt")
    with pytest.raises(InputError, match="expected one finite vector"):
        load_mean_file(tmp_path / "matrix.pt")


def test_load_by_name_gives_the_shipped_model() -> None:
    model = splice.load(device="cpu", vocabulary_size=40)
    assert len(model.vocabulary) == 40
    assert model.dictionary.shape[0] == 40
    with pytest.raises(InputError, match="unknown encoder 'clap:x'"):
        splice.load("clap:x")
    with pytest.raises(InputError, match=r"the zoo has no network 'emoji-clp'.*did you mean emoji-clip"):
        splice.load("zoo:emoji-clp")
    assert "zoo:emoji-clip" in splice.available_models()


def twins() -> tuple[splice.Splice, splice.Splice, Tensor]:
    """A model, the same with every word in two spellings, one of them off by rounding, and embeddings."""
    generator = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize
    atoms = unit(torch.randn(60, D, generator=generator), dim=1)
    words = [f"word{i}" for i in range(60)]
    both = torch.cat([unit(atoms + 1e-7, dim=1), atoms])
    embeddings = unit(torch.randn(20, D, generator=generator), dim=1)
    single = splice.Splice(None, words, atoms, torch.zeros(D))
    return single, splice.Splice(None, [w.upper() for w in words] + words, both, torch.zeros(D)), embeddings


def test_equal_atoms_are_one_word() -> None:
    single, double, embeddings = twins()
    one, two = single.explain(embeddings), double.explain(embeddings)
    assert two.decomposition.shape == (20, 120)
    torch.testing.assert_close(two.decomposition.to_dense()[:, 60:], one.decomposition.to_dense(), atol=1e-4, rtol=0)
    assert not two.decomposition.to_dense()[:, :60].any()
    word = int(one.decomposition.to_dense()[0].argmax())
    for spelling in (f"word{word}", f"WORD{word}"):
        without = double.explain(embeddings[:1], suppress=[spelling])
        assert without.decomposition.to_dense()[0, [word, 60 + word]].tolist() == [0, 0]
        assert without.decomposition.l0 == one.decomposition.l0[0] - 1


def test_words_that_an_encoder_cannot_tell_apart_are_told(encoder: OwnEncoder) -> None:
    encoder.table[3] = encoder.table[7]
    with pytest.warns(VocabularyWarning, match="1 of 50 words have the embedding of another .*: 'word3' is 'word7'"):
        splice.Splice(encoder, WORDS, image_mean=torch.zeros(D))


def test_a_string_is_not_read_letter_by_letter(encoder: OwnEncoder) -> None:
    with pytest.raises(InputError, match="expected several words, got the one text 'word1'; put it into a list"):
        splice.build_dictionary(encoder, "word1")
    assert encode_texts(encoder, "word1").shape == (1, D)


def test_batches_of_other_kinds_are_named() -> None:
    _, model, embeddings = twins()
    single = {"pixel_values": embeddings, "labels": torch.zeros(20)}
    with pytest.raises(InputError, match=r"a tuple \(images, \.\.\.\), got dict with pixel_values, labels"):
        splice.decompose_dataset([single], model)
    with pytest.raises(InputError, match=r"a tuple \(images, labels, \.\.\.\), got dict with pixel_values, labels"):
        splice.decompose_classes([single], splicemodel=model)
    with pytest.raises(InputError, match="takes the preprocessed pixels of an image, got Image; preprocess it"):
        splice.decompose_image(Image.new("RGB", (8, 8)), model)  # type: ignore[arg-type]
    assert list(splice.decompose_classes([(embeddings, [3] * 20)], splicemodel=model).classes) == [3]


@pytest.mark.parametrize("penalty", [np.float16(0.25), np.float32(0.25), np.float64(0.25)])
def test_numbers_of_numpy_are_numbers(penalty: np.floating) -> None:
    single, _, embeddings = twins()
    assert torch.equal(
        splice.decompose(embeddings, single.dictionary, penalty).l0,  # type: ignore[arg-type]
        splice.decompose(embeddings, single.dictionary, 0.25).l0,
    )
    options = SpliceOptions(l1_penalty=penalty, vocabulary_size=np.int64(3))  # type: ignore[arg-type]
    assert (type(options.l1_penalty), type(options.vocabulary_size)) == (float, int)


@pytest.mark.parametrize("suffix", [".npy", ".pth", ".pt", ".safetensors"])
def test_means_in_files_of_every_kind(tmp_path: Path, suffix: str) -> None:
    mean, path = torch.rand(D), tmp_path / f"mean{suffix}"
    if suffix == ".npy":
        np.save(path, mean.numpy())
    elif suffix == ".safetensors":
        save_file({"mean": mean}, path)
    else:
        torch.save(mean, path)
    assert torch.equal(load_mean_file(path), mean)
    assert torch.equal(load_text_mean(str(path), None), mean)  # type: ignore[arg-type]  # not asked
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match=rf"mean\{suffix}: expected a file with one tensor"):
        load_text_mean(str(path), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("un été\n".encode("latin-1"), r"captions\.txt: expected UTF-8 text, byte 3 is not; save it as UTF-8"),
        (b" \n\n", r"captions\.txt: holds no captions; expected one a line"),
    ],
)
def test_captions_that_cannot_be_read(encoder: OwnEncoder, tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "captions.txt").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        load_text_mean(str(tmp_path / "captions.txt"), encoder)  # type: ignore[arg-type]
