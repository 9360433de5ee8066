"""SPLICE and the functions around it against the published implementation, restated literally with scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from torch import Tensor, nn
from torch.nn.functional import normalize

from conceptry.models import splice
from conceptry.models.errors import InputError

D, WORDS, PENALTY = 24, 40, 0.15


class Backbone(nn.Module):
    """A user's own network: images (n, 3, 4, 4), texts as tokens (n, 5) or strings of digits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.images = nn.Linear(48, D)
        self.tokens = nn.Embedding(WORDS, D)

    def encode_image(self, image: Tensor) -> Tensor:
        return self.images(image.flatten(1)) + 0.5

    def encode_text(self, text: Sequence[str] | Tensor) -> Tensor:
        if not isinstance(text, Tensor):
            text = torch.tensor([[int(one)] * 5 for one in text])
        return self.tokens(text).mean(dim=1)


@pytest.fixture
def parts() -> dict[str, Any]:
    backbone = Backbone()
    with torch.no_grad():
        concepts = normalize(torch.cat([backbone.encode_text([str(i)]) for i in range(WORDS)]), dim=1)
        mean = concepts.mean(dim=0)
        image_mean = normalize(backbone.encode_image(images()), dim=1).mean(dim=0)
    return {
        "image_mean": image_mean,
        "dictionary": normalize(concepts - mean, dim=1),
        "clip": backbone,
        "text_mean": mean,
    }


def images() -> Tensor:
    return torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(1))


def literal_weights(centred: Tensor, dictionary: Tensor, penalty: float = PENALTY) -> Tensor:
    """One Lasso for each centred embedding, its penalty divided by 2 d."""
    rows = []
    for v in centred.double().numpy():
        lasso = Lasso(alpha=penalty / (2 * D), fit_intercept=False, positive=True, max_iter=10_000, tol=1e-10)
        rows.append(lasso.fit(dictionary.double().numpy().T, v).coef_)
    return torch.from_numpy(np.stack(rows)).float()


def literal_recomposition(weights: Tensor, dictionary: Tensor, mean: Tensor) -> Tensor:
    return normalize(normalize(weights @ dictionary, dim=1) + mean, dim=1)


def model_of(parts: dict[str, Any], **options: Any) -> splice.SPLICE:
    return splice.SPLICE(**parts, l1_penalty=PENALTY, **options)


@pytest.fixture
def z(parts: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return normalize(parts["clip"].encode_image(images()), dim=1)


@pytest.fixture
def centred(parts: dict[str, Any], z: Tensor) -> Tensor:
    return normalize(z - parts["image_mean"], dim=1)


@pytest.mark.parametrize("solver", ["active_set", "skl", "admm"])
def test_decompose_takes_what_is_centred_already(parts, centred: Tensor, solver: str) -> None:
    model = model_of(parts, solver=solver)
    weights = model.decompose(centred)
    expected = literal_weights(centred, parts["dictionary"])
    assert expected.count_nonzero() > 10
    assert (weights - expected).abs().max() < 1e-4
    ours = splice.Splice.decompose(model, centred, centred=True)
    torch.testing.assert_close(ours.to_dense(), weights)
    again = splice.Splice.decompose(model, parts["clip"].encode_image(images()).detach())  # centres by itself
    torch.testing.assert_close(again.to_dense(), weights, atol=1e-4, rtol=0)


def test_what_is_not_centred_is_refused_where_its_norm_tells(parts, centred: Tensor) -> None:
    model = model_of(parts)
    raw = parts["clip"].encode_image(images()).detach()
    with pytest.raises(
        InputError, match=r"row 0: a centred embedding has norm 1, this one [\d.]+; take the mean off and"
    ):
        model.decompose(raw)
    centred[2] *= 1.02
    with pytest.raises(InputError, match=r"row 2: a centred embedding has norm 1, this one 1\.02"):
        splice.Splice.decompose(model, centred, centred=True)
    with pytest.raises(InputError, match="row 1: a centred embedding has norm 1, this one nan"):
        model.decompose(torch.stack([centred[0], centred[1] * torch.nan]))
    assert model.decompose(torch.zeros(1, D)).count_nonzero() == 0  # an image that equals the mean


@pytest.mark.parametrize("return_weights", [False, True])
@pytest.mark.parametrize("return_cosine", [False, True])
def test_encode_image(parts, z: Tensor, centred: Tensor, return_weights: bool, return_cosine: bool) -> None:
    model = model_of(parts, return_weights=return_weights, return_cosine=return_cosine)
    weights = literal_weights(centred, parts["dictionary"])
    z_hat = literal_recomposition(weights, parts["dictionary"], parts["image_mean"])
    answer = model.encode_image(images())
    if return_cosine:
        answer, cosine = answer
        assert cosine.item() == pytest.approx((z * z_hat).sum().item(), abs=1e-3)  # summed, as published
    torch.testing.assert_close(answer, weights if return_weights else z_hat, atol=1e-4, rtol=0)


def test_intervene_image_honours_return_weights(parts, centred: Tensor) -> None:
    weights = literal_weights(centred, parts["dictionary"])
    unwanted = [int(weights[0].argmax()), 3]
    weights[:, unwanted] = 0
    assert model_of(parts).intervene_image(images(), unwanted).shape == (7, D)
    torch.testing.assert_close(
        model_of(parts, return_weights=True).intervene_image(images(), unwanted), weights, atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        model_of(parts).intervene_image(images(), unwanted),
        literal_recomposition(weights, parts["dictionary"], parts["image_mean"]),
        atol=1e-4,
        rtol=0,
    )


def test_encode_text_is_dense_unless_decomp_text(parts) -> None:
    tokens = torch.tensor([[4] * 5, [5, 6, 7, 8, 9]])
    raw = parts["clip"].encode_text(tokens).detach()
    dense = normalize(raw, dim=1)
    torch.testing.assert_close(model_of(parts).encode_text(tokens), dense)
    torch.testing.assert_close(model_of(parts, return_weights=True).encode_text(["4"]), dense[:1])
    torch.testing.assert_close(model_of(parts).encode_text("4"), dense[:1])  # one text, not a list of letters
    torch.testing.assert_close(model_of(parts).encode_text("12"), model_of(parts).encode_text(["12"]))
    weights = literal_weights(normalize(dense - parts["text_mean"], dim=1), parts["dictionary"])
    decomposed = model_of(parts, decomp_text=True, return_weights=True).encode_text(tokens)
    torch.testing.assert_close(decomposed, weights, atol=1e-4, rtol=0)
    z_hat = literal_recomposition(weights, parts["dictionary"], parts["text_mean"])
    torch.testing.assert_close(model_of(parts, decomp_text=True).encode_text(tokens), z_hat, atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="this model has no text mean, so it cannot decompose or recompose texts"):
        model_of(parts | {"text_mean": None}, decomp_text=True).encode_text(tokens)


def test_a_model_without_an_encoder_takes_embeddings(parts, z: Tensor) -> None:
    over_embeddings = splice.SPLICE(parts["image_mean"], parts["dictionary"], l1_penalty=PENALTY)
    expected = model_of(parts).encode_image(images())
    raw = parts["clip"].encode_image(images()).detach()
    torch.testing.assert_close(over_embeddings.encode_image(raw), expected)
    image, text = over_embeddings(raw, z)
    torch.testing.assert_close(image, expected)
    torch.testing.assert_close(text, z)
    torch.testing.assert_close(
        over_embeddings.intervene_image(raw, [1]), model_of(parts).intervene_image(images(), [1])
    )
    weights, _, cosine = splice.decompose_dataset([raw[:3], raw[3:]], over_embeddings)
    assert weights.shape == (WORDS,)
    assert cosine == pytest.approx((z * expected).sum(dim=1).mean().item(), abs=1e-4)
    assert splice.decompose_image(raw[0], over_embeddings).weights.shape == (WORDS,)
    with pytest.raises(
        InputError, match=r"no encoder; it decomposes embeddings \(batch, 24\) only, got shape \(7, 3, 4"
    ):
        over_embeddings.encode_image(images())
    with pytest.raises(InputError, match=r"it decomposes embeddings \(batch, 24\) only, got str"):
        over_embeddings.encode_text("a dog")


def test_it_is_a_module_like_any_other(parts) -> None:
    parts["clip"].train()
    model = model_of(parts)
    assert not model.clip.training
    assert not model.train().clip.training  # whatever one trains around it
    assert model.eval() is model
    assert model.clip is parts["clip"]
    assert {id(p) for p in parts["clip"].parameters()} == {id(p) for p in model.parameters()}
    assert model.device == torch.device("cpu")
    double = model.to(torch.float64)
    assert double.dictionary.dtype == double.image_mean.dtype == double.clip.images.weight.dtype == torch.float64
    assert {"dictionary", "image_mean", "text_mean"} <= model.state_dict().keys()
    with pytest.raises(InputError, match="device must be auto, cpu, cuda or cuda:INDEX, got 'gpu'"):
        model_of(parts, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device 'cuda' is not there"):
            model_of(parts, device="cuda")


def test_means_unpack_in_the_published_order(parts, z: Tensor, centred: Tensor) -> None:
    model, labels = model_of(parts), torch.tensor([4, 1, 4, 4, 2, 1, 4])
    expected = literal_weights(centred, parts["dictionary"])
    cosines = (z * literal_recomposition(expected, parts["dictionary"], parts["image_mean"])).sum(dim=1)
    loader = [(images()[:4], labels[:4]), (images()[4:], labels[4:])]

    weights, l0, cosine = splice.decompose_image(images()[:1], model, "cpu")
    assert weights.shape == (1, WORDS)
    assert (l0, isinstance(cosine, float)) == (expected[0].count_nonzero().item(), True)
    torch.testing.assert_close(weights, expected[:1], atol=1e-4, rtol=0)

    weights, l0, cosine = splice.decompose_dataset(loader, model, "cpu")
    torch.testing.assert_close(weights, expected.mean(dim=0), atol=1e-4, rtol=0)
    assert l0 == pytest.approx(expected.count_nonzero(dim=1).double().mean().item())
    assert cosine == pytest.approx(cosines.mean().item(), abs=1e-4)

    of_class = labels == 4
    class_weights, l0, cosine = splice.decompose_classes(loader, 4, model, "cpu")
    assert list(class_weights) == [4]
    torch.testing.assert_close(class_weights[4], expected[of_class].mean(dim=0), atol=1e-4, rtol=0)
    assert l0 == pytest.approx(expected[of_class].count_nonzero(dim=1).double().mean().item())
    assert cosine == pytest.approx(cosines[of_class].mean().item(), abs=1e-4)

    class_weights, l0, _ = splice.decompose_classes(loader, None, model, "cpu")
    assert list(class_weights) == [1, 2, 4]
    assert l0 == pytest.approx(expected.count_nonzero(dim=1).double().mean().item())  # of all images, as published
    for summaries in (
        splice.decompose_classes(loader, model, 4),  # the order of earlier releases
        splice.decompose_classes(loader, model, target_label=4),
        splice.decompose_classes(dataloader=loader, target_label=4, splicemodel=model, device="cpu"),
    ):
        assert [label for label, _ in summaries.items()] == [4]
        assert (len(summaries), summaries[4].count) == (1, 4)


def test_wrong_arguments_are_named(parts) -> None:
    model = model_of(parts)
    with pytest.raises(InputError, match=r"decompose_image takes one image, got shape \(7, 3, 4, 4\)"):
        splice.decompose_image(images(), model)
    with pytest.raises(InputError, match="the model is on cpu and the images would go to cuda:1; move the model by"):
        splice.decompose_image(images()[0], model, "cuda:1")
    with pytest.raises(InputError, match="decompose_classes needs a model"):
        splice.decompose_classes([], 4)
    with pytest.raises(InputError, match="the loader holds no images of class 9"):
        splice.decompose_classes([(images(), torch.zeros(7))], 9, model)
    with pytest.raises(InputError, match="solver is 'lars'; expected one of active_set, admm, sklearn"):
        model_of(parts, solver="lars").decompose(torch.zeros(1, D))


def test_words_without_a_vocabulary_go_by_their_position(parts) -> None:
    record = model_of(parts).explain(images()[0])
    position = int(record.decomposition.to_dense()[0].argmax())
    assert record.words()[0][0] == str(position)
    named = model_of(parts, vocabulary=[f"word{i}" for i in range(WORDS)])
    assert named.explain(images()[0]).words()[0][0] == f"word{position}"


def test_load_gives_what_its_users_know() -> None:
    model = splice.load("zoo:emoji-clip", "emoji", -1, "cpu", l1_penalty=0.2, return_weights=True, return_cosine=True)
    vocabulary = splice.get_vocabulary("emoji", -1)
    assert isinstance(model, splice.SPLICE)
    assert model.vocabulary == vocabulary == splice.get_vocabulary("emoji")
    tokens = splice.get_tokenizer("zoo:emoji-clip")("a dog")
    text = model.encode_text(tokens)
    torch.testing.assert_close(text, model.encode_text("a dog"))
    assert text.norm(dim=1).item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(normalize(model.clip.encode_text(tokens), dim=1), text)  # the network itself
    weights, cosine = model.encode_image(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert (weights.shape, cosine.shape) == ((2, len(vocabulary)), ())
    assert sum(p.numel() for p in model.parameters()) > 1e6
    mean = torch.full((128,), 0.01)
    assert torch.equal(splice.load(vocabulary_size=9, device=None, text_mean=mean, image_mean=mean).means["text"], mean)
    with pytest.raises(InputError, match=r"vocabulary_size must be from 1 to \d+ for vocabulary.txt, got -2"):
        splice.load("zoo:emoji-clip", "emoji", -2)
