"""The reduced token table: what is in it reads as in open_clip, what is not is refused."""

import re

import pytest
import torch

from conceptry.models.encoders.tokens import CompactTokenizer, used_bpe_ids
from conceptry.models.errors import InputError
from conceptry.models.zoo.emoji_world.captions import known_texts, prompts
from conceptry.models.zoo.emoji_world.emoji import VOCABULARY
from conceptry.models.zoo.emoji_world.scenes import EmojiScenes


def captions(split: str, n: int) -> list[str]:
    data = EmojiScenes(split, n, seed=5)
    return [data[i].caption for i in range(n)]


@pytest.fixture(scope="module")
def tokenizer() -> CompactTokenizer:
    return CompactTokenizer(used_bpe_ids(known_texts()), 16)


def test_rows_are_open_clips_ids_renumbered(tokenizer: CompactTokenizer):
    import open_clip

    texts = [*VOCABULARY, *captions("heldout", 200)]
    rows = tokenizer(texts)
    full = open_clip.SimpleTokenizer(context_length=16)(texts)
    assert rows.shape == (len(texts), 16)
    assert rows.dtype == torch.int64
    ids = torch.tensor(tokenizer.bpe_ids)
    used = torch.arange(16) <= full.argmax(dim=1, keepdim=True)
    assert torch.equal(ids[rows][used], full[used])
    assert torch.equal(rows.argmax(dim=1), full.argmax(dim=1))  # end of text is where open_clip looks for it
    assert int(rows.max()) == len(tokenizer) - 1


def test_every_word_prompt_and_caption_is_known(tokenizer: CompactTokenizer):
    texts = [text for word in VOCABULARY for text in prompts(word)]
    texts += captions("train", 500)
    texts += ["a photo of a dog", "An image of the guitar.", "this is a red background"]
    assert tokenizer(texts).shape == (len(texts), 16)
    assert all(tokenizer.unknown_words(text) == [] for text in texts)


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("a photo of a zeppelin", ["zeppelin"]),
        ("a peacock and a dog with peacock feathers!", ["peacock", "feathers", "!"]),
        ("a catdog", ["catdog"]),
        ("dogs", ["dogs"]),
    ],
)
def test_unknown_words_are_named(tokenizer: CompactTokenizer, text: str, unknown: list[str]):
    assert tokenizer.unknown_words(text) == unknown
    names = ", ".join(map(repr, unknown))
    with pytest.raises(InputError, match=re.escape(f"text {text!r} has words") + ".*" + re.escape(names)):
        tokenizer(["a dog", text])


def test_long_texts_are_refused_not_cut(tokenizer: CompactTokenizer):
    assert tokenizer([" ".join(["dog"] * 14)]).shape == (1, 16)
    with pytest.raises(InputError, match="has 15 tokens; this encoder reads at most 14 and does not cut texts short"):
        tokenizer([" ".join(["dog"] * 15)])


def test_one_text_and_no_text(tokenizer: CompactTokenizer):
    assert torch.equal(tokenizer("a dog"), tokenizer(["a dog"]))
    assert tokenizer([]).shape == (0, 16)


@pytest.mark.parametrize(
    ("ids", "length", "message"),
    [
        ([5, 3, 49406, 49407], 16, "distinct and ascending"),
        ([3, 3, 49406, 49407], 16, "distinct and ascending"),
        ([3, 49407], 16, "must hold start of text"),
        ([3, 49406, 49407], 2, "context_length must be 3 or more, got 2"),
    ],
)
def test_wrong_tables_are_refused(ids: list[int], length: int, message: str):
    with pytest.raises(InputError, match=message):
        CompactTokenizer(ids, length)
