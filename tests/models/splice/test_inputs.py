"""What may be explained, in all its forms, and each refusal in one sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conceptry.models import splice
from conceptry.models.encoders import load_encoder
from conceptry.models.errors import InputError
from conceptry.models.images import png_bytes
from conceptry.models.splice.inputs import read_inputs


@pytest.fixture(scope="module")
def model(tiny_encoder: Path, words_file: Path) -> splice.Splice:
    return splice.Splice(f"open_clip:local-dir:{tiny_encoder}", words_file, l1_penalty=0.05, device="cpu")


def test_every_form_of_an_image_gives_its_words(model: splice.Splice, picture: Image.Image, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    picture.save(file)
    array = np.asarray(picture)
    pixels = model.encoder.preprocess(picture)
    forms = [
        picture, file, str(file), png_bytes(picture), array, torch.from_numpy(array.copy()).permute(2, 0, 1), pixels,
        model.encoder.encode_image(pixels[None])[0], model.encoder.encode_image(pixels[None])[0].tolist(),
        model.encoder.encode_image(pixels[None])[0].numpy(),
    ]  # fmt: skip
    found = model.explain(forms)
    assert len(found.words()) > 3
    for row, form in enumerate(forms):
        for other in (model.explain(form), model.explain([form])):  # alone, and alone in a list
            assert [word for word, _ in other.words()] == [word for word, _ in found.words()]
            assert other.cosine[0].item() == pytest.approx(found.cosine[row].item(), abs=1e-5)
            assert other.cosine[0].item() == pytest.approx(found.cosine[0].item(), abs=1e-5)


def test_images_texts_and_embeddings_may_be_mixed(model: splice.Splice, picture: Image.Image) -> None:
    tokens = model.encoder.tokenize(["a dog"])
    embedded = model.encoder.encode_text(["a dog"])[0]
    together = model.explain(["a dog", picture, embedded, tokens[0]], ["text"] * 4)
    assert together.inputs[1].kind == "image"
    for row, alone in enumerate((model.explain("a dog"), model.explain(picture), model.explain(embedded, "text"))):
        torch.testing.assert_close(together.recomposed[row], alone.recomposed[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(together.recomposed[3], together.recomposed[0], atol=1e-5, rtol=0)
    assert (model.explain(embedded).recomposed - together.recomposed[2]).abs().max() > 0.01  # another mean
    torch.testing.assert_close(model.explain(tokens).recomposed[0], together.recomposed[0], atol=1e-5, rtol=0)


def test_arrays_with_one_more_dimension_hold_several(model: splice.Splice, picture: Image.Image) -> None:
    pair = np.stack([np.asarray(picture), np.asarray(picture.rotate(90))])
    found = model.explain(pair)
    assert len(found) == 2
    turned = model.explain(picture.rotate(90))
    assert found.cosine[1].item() == pytest.approx(turned.cosine[0].item(), abs=1e-5)
    assert len(model.explain(np.ones((3, 64)))) == 3
    assert len(model.explain([np.ones((3, 64)), picture])) == 4


def test_a_string_is_a_text_or_the_name_of_an_image_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sun").write_bytes(b"")
    (tmp_path / "dog").mkdir()
    kinds = {
        text: one.kind for text in ("a dog", "dog", "sun", "x.png", "a b.JPG", "and/or ") for one in read_inputs(text)
    }
    assert kinds == {
        "a dog": "text", "dog": "text", "sun": "image", "x.png": "image", "a b.JPG": "image", "and/or ": "text",
    }  # fmt: skip
    for text in ("x.pgn", "dog/sun"):
        with pytest.raises(InputError, match=f"input 0: {text}: no such file; to have it read as a text, put a space"):
            read_inputs(text)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ([], "there is nothing to explain; expected at least one image, text or embedding"),
        (["a dog", 3], "input 1: expected an image (PIL, a path, bytes, uint8 array), a text or an embedding, got int"),
        (["a dog", "  "], "input 1: expected a text that is not blank"),
        ([Path("gone.png")], "input 0: gone.png: no such file"),
        ([b"no image"], "input 0: not a picture: expected PNG, JPEG, GIF, WEBP, BMP, TIFF bytes, or their base64 text"),
        (np.zeros((2, 3, 4)),
         "input 0: an array is an embedding (d,), several (n, d), or a uint8 image, got shape (2, 3, 4)"),
        (np.zeros((2, 3, 4, 5), np.uint8),
         "input 0: a uint8 image has the shape (height, width) or (height, width, 3), got (2, 3, 4, 5)"),
        (torch.zeros(2, 2, 2, 2, 2),
         "input 0: a tensor is an embedding (d,), pixels or a uint8 image (3, height, width), or tokens (context,), "
         "got float32 of shape (2, 2, 2, 2, 2)"),
        ([torch.zeros(64)], "input 0: the zero vector has no direction; expected at least one number that is not 0"),
        ([torch.ones(63)], "input 0: expected 64 numbers, got shape (63,)"),
        ([torch.ones(3, 64, 64), torch.ones(3, 32, 64)], "input 1: expected the shape (3, 64, 64) of input 0, "
         "got (3, 32, 64)"),
    ],
)  # fmt: skip
def test_what_cannot_be_explained_is_named(model: splice.Splice, inputs: object, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        model.explain(inputs)
    assert str(caught.value) == sentence


def test_parameters_are_those_of_a_served_version(model: splice.Splice) -> None:
    with pytest.raises(InputError, match="no parameter 'topk'; expected one of modality, l1_penalty, suppress, top_k"):
        model.explain("a dog", topk=3)
    with pytest.raises(InputError, match="top_k must be at least 1, got 0"):
        model.explain("a dog", top_k=0)
    with pytest.raises(InputError, match="modality names 1 modalities for 2 inputs; they must agree"):
        model.explain(["a dog", "a sun"], ["text"])
    with pytest.raises(InputError, match="modality must be image or text, got 'sound'"):
        model.explain(torch.ones(1, 64), "sound")  # type: ignore[arg-type]  # refused here
    answer, _ = model.explain(["a dog", "a sun"], top_k=2, return_embedding=True).answers()
    assert list(answer) == ["concepts", "l0", "cosine", "gap", "embedding", "recomposed"]
    assert len(answer["concepts"]) == 2 < answer["l0"]
    assert np.dot(answer["embedding"], answer["recomposed"]) == pytest.approx(answer["cosine"], abs=1e-6)


def test_a_record_can_be_drawn_and_written(model: splice.Splice, picture: Image.Image) -> None:
    found = model.explain([picture, "a dog", torch.ones(64)], top_k=3)
    assert found.to_dict() == {"method": "splice", "explanations": found.answers()}
    image, text, embedding = found.drawable()
    assert (image["image"].size, text["text"]) == (picture.size, "a dog")
    assert {"image", "text"}.isdisjoint(embedding)
    drawn = [axes for axes in found.plot().axes if axes.texts]
    assert {"a dog", "an embedding"} <= {text.get_text() for axes in drawn for text in axes.texts}
    assert found._repr_html_().count("<tr>") == 4


def test_what_an_encoder_lacks_is_said(model: splice.Splice, picture: Image.Image, tiny_encoder: Path) -> None:
    bare = splice.Splice(None, model.vocabulary, model.dictionary, model.image_mean, model.text_mean)
    with pytest.raises(InputError, match="this model has no encoder; it decomposes embeddings only"):
        bare.explain(picture)

    class Own:
        def encode_image(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(pixels), 63)

        def encode_text(self, texts: list[str]) -> torch.Tensor:
            return torch.ones(len(texts), 64)

    own = splice.Splice(Own(), model.vocabulary, model.dictionary, model.image_mean, model.text_mean)
    assert own.explain("a dog").embedding.shape == (1, 64)
    with pytest.raises(
        InputError, match="input 0: the encoder, of class Own, has no preprocess, so it takes no images"
    ):
        own.explain(picture)
    with pytest.raises(InputError, match=r"embeddings of shape \(1, 63\) for 1 inputs; expected \(1, 64\)"):
        own.explain(torch.ones(3, 4, 4))
    network = load_encoder(f"open_clip:local-dir:{tiny_encoder}", "cpu").model  # type: ignore[attr-defined]
    published = splice.SPLICE(model.image_mean, model.dictionary, network)
    with pytest.raises(InputError, match="a bare open_clip model takes tokens, not texts; give tokens, or wrap it by"):
        published.encode_text("a dog")
    assert published.encode_text(model.encoder.tokenize("a dog")).shape == (1, 64)
