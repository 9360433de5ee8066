"""A tokeniser for encoders whose token table holds only the words they were trained to read.

CLIP's byte-pair encoding has 49,408 ids; a small encoder reads a few hundred of them. Its table keeps those rows
alone, in ascending order of id, so that end-of-text stays the largest (open_clip pools at the largest id of a row).
A text with a piece outside the table is refused: the encoder has no embedding for it, and a guess would be silent.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import torch

from conceptry.models.errors import InputError

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer


# Start and end of text, the last ids of CLIP's byte-pair encoding.
START, END = 49406, 49407


@cache
def _clip_bpe() -> "SimpleTokenizer":
    from open_clip.tokenizer import SimpleTokenizer  # imports torchvision and timm: only when text is read

    return SimpleTokenizer()


def used_bpe_ids(texts: Iterable[str]) -> list[int]:
    """The ids of CLIP's byte-pair encoding that occur in `texts`, with start and end of text, ascending."""
    bpe = _clip_bpe()
    return sorted({START, END}.union(*(bpe.encode(text) for text in texts)))


class CompactTokenizer:
    """Texts to rows of a reduced token table.

    bpe_ids: the ids the table holds, in the order of its rows: ascending, distinct, start and end of text among
        them. context_length: tokens per text, start and end of text included. Raises InputError for anything else.
    """

    def __init__(self, bpe_ids: list[int], context_length: int) -> None:
        if sorted(set(bpe_ids)) != list(bpe_ids):
            raise InputError("bpe_ids must be distinct and ascending, as the rows of the token table are")
        if not {START, END} <= set(bpe_ids) or bpe_ids[-1] != END:
            raise InputError(
                f"bpe_ids must hold start of text ({START}) and, as the largest, end of text "
                f"({END}); got {len(bpe_ids)} ids up to {max(bpe_ids, default=None)}"
            )
        if context_length < 3:
            raise InputError(f"context_length must be 3 or more, got {context_length}")
        self.bpe_ids, self.context_length = list(bpe_ids), context_length
        self._rows = {bpe_id: row for row, bpe_id in enumerate(bpe_ids)}

    def __len__(self) -> int:
        """Rows of the token table."""
        return len(self.bpe_ids)

    def __call__(self, texts: Sequence[str] | str) -> torch.Tensor:
        """Token rows, int64 (n_texts, context_length); after end of text, row 0, which nothing attends to.

        Raises InputError naming the text and its unknown words, or a text that is longer than the context.
        """
        texts = [texts] if isinstance(texts, str) else texts
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            ids = self._encode(text)
            tokens[row, : len(ids)] = torch.tensor(ids)
        return tokens

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` that have a piece outside the table, in order of appearance, without repeats."""
        bpe, unknown, pieces = _clip_bpe(), [], []
        for bpe_id in bpe.encode(text):
            pieces.append(bpe_id)
            if bpe.decoder[bpe_id].endswith("</w>"):
                word = bpe.decode(pieces).strip()
                if any(piece not in self._rows for piece in pieces) and word not in unknown:
                    unknown.append(word)
                pieces = []
        return unknown

    def _encode(self, text: str) -> list[int]:
        bpe = _clip_bpe()
        pieces = bpe.encode(text)
        if any(piece not in self._rows for piece in pieces):
            words = ", ".join(map(repr, self.unknown_words(text)))
            raise InputError(f"text {text!r} has words that this encoder was never trained on: {words}")
        if len(pieces) + 2 > self.context_length:
            raise InputError(
                f"text {text!r} has {len(pieces)} tokens; this encoder reads at most {self.context_length - 2} "
                "and does not cut texts short"
            )
        return [self._rows[i] for i in (START, *pieces, END)]
