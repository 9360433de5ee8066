r"""A start for the decoder whose features are evidence for words: say what there is most evidence for, each word once.

| symbol | meaning | shape |
|---|---|---|
| z | features: evidence for the first D words of the vocabulary (projection.py) | (k, D) |
| e_w | embedding of word w | (E,) |
| c_w | cell w of the LSTM, one of the first D | |

Of the weights as PyTorch draws them, these are set:

    c_w starts as tanh(A mean_j z_jw)                  and h_w likewise
    forget gate of c_w: sigmoid(2 - S e_w . e / |e_w|^2 + ...)    kept, until w itself has been said
    logit of w: B h_w + ...

All of it is trained from there. Without it the LSTM has to find out for each word on its own that evidence for it is
to be said, and that what has been said is not to be said again: that takes many more steps than everything else.
"""

import torch

from conceptry.models.errors import InputError
from conceptry.models.milan.decoder import Decoder

START, SUPPRESSION, LOGIT = 0.3, 5.0, 4.0  # A, S, B
_KEPT, _ENTERING = 2.0, -1.0  # biases of the forget and the input gates


@torch.no_grad()
def start_from_evidence(decoder: Decoder) -> None:
    """Set the weights of `decoder` in place; its features are one for each word, in the vocabulary's order.

    Raises InputError where it has fewer cells than features, or other features than words.
    """
    d, h, e = decoder.n_features, decoder.hidden_size, decoder.embedding_size
    if d != decoder.start:
        raise InputError(f"evidence needs a feature for each of the {decoder.start} words, got {d}")
    if d > h:
        raise InputError(f"evidence needs a cell for each of the {d} words, hidden_size is {h}")
    for layer in (decoder.initial_cell, decoder.initial_hidden):
        layer.weight[:d] = START * torch.eye(d)
        layer.bias[:d] = 0
    decoder.lstm.bias_hh.zero_()
    decoder.lstm.bias_ih[:h] = _ENTERING
    decoder.lstm.bias_ih[h : 2 * h] = _KEPT
    words = decoder.embedding.weight[:d]
    decoder.lstm.weight_ih[h : h + d, :e] -= SUPPRESSION * words / words.pow(2).sum(dim=1, keepdim=True)
    decoder.output.weight[:, :d] *= 0.1
    decoder.output.weight[:d, :d] += LOGIT * torch.eye(d)
