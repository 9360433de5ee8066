"""Outputs of every form as logits, and classes by name or index."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.explained.load import load_explained
from conceptry.models.perturbation.class_scores import ClassScores


class _Sum(nn.Module):
    """Outputs that are functions of the sum of the pixels."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.flatten(1).sum(1, keepdim=True))


def test_probabilities_are_those_of_the_model_whatever_it_puts_out(user_network) -> None:
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    s = x.flatten(1).sum(1, keepdim=True)
    for function, form in (
        (lambda s: torch.cat([torch.zeros_like(s), s - 8], 1), "logits"),
        (lambda s: s - 8, "logits"),
        (lambda s: (s - 8).sigmoid(), "probabilities"),
        (lambda s: torch.cat([(8 - s).sigmoid(), (s - 8).sigmoid()], 1), "probabilities"),
    ):
        scores = ClassScores(user_network(_Sum(function), form))
        assert scores(x).shape == (3, 2)
        torch.testing.assert_close(scores.probabilities(x)[:, 1:], (s - 8).sigmoid())
        (gradient,) = torch.autograd.grad(scores(x.requires_grad_())[:, 1].sum(), x)
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0
    certain = ClassScores(user_network(_Sum(lambda s: torch.cat([s * 0 + 1, s * 0], 1)), "probabilities"))
    torch.testing.assert_close(certain.probabilities(x), torch.tensor([[1.0, 0.0]] * 3))  # and not NaN


def test_what_is_no_differentiable_classifier_of_pictures_is_refused(user_network) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 1))
    for model, sentence in (
        (
            user_network(linear, "values", ("target",)),
            r"mine: puts out values, not classes; expected a classifier, .* by --outputs logits or",
        ),
        (user_network(linear, "logits", ("only",)), "mine: puts out values"),
        (load_explained("zoo:wine", "cpu"), "zoo:wine: takes table, expected a network over pictures"),
        (SimpleNamespace(name="graph", modality="image"), "graph: .* cannot be differentiated in the pixels"),
        (nn.Linear(2, 2), "Linear: takes nothing known"),
    ):
        with pytest.raises(InputError, match=sentence):
            ClassScores(model)
    for outputs in (lambda s: torch.cat([s + 3, s - 3], 1), lambda s: s + 3, lambda s: torch.cat([1 - s, s], 1)):
        called = ClassScores(user_network(_Sum(outputs), "probabilities"))
        with pytest.raises(InputError, match=r"no probabilities .* say so by --outputs logits"):
            called.probabilities(torch.ones(2, 1, 4, 4))
    broken = ClassScores(user_network(_Sum(lambda s: s / 0 * torch.ones(1, 2))))
    with pytest.raises(InputError, match="mine: the network puts out NaN or infinite values"):
        broken.probabilities(torch.ones(2, 1, 4, 4))


def test_classes_by_name_and_by_index(user_network) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 4))
    scores = ClassScores(user_network(linear, "logits", ("tabby", "Egyptian cat", "crane", "crane")))
    for value, index in (("tabby", 0), (" Egyptian cat ", 1), (1, 1), ("3", 3), (2.0, 2), (np.int64(3), 3)):
        assert scores.index_of(value) == index
    for value, sentence in (
        ("egyptian", "mine has no class 'egyptian'; near it are 'Egyptian cat', or an index from 0 to 3"),
        ("dog", "mine has no class 'dog'; there are 'tabby', 'Egyptian cat', 'crane', 'crane', or an index"),
        (4, "mine has no class '4'"),
        (-1, "mine has no class '-1'"),
        ("²", "mine has no class '²'"),
        ("crane", r"2 classes are called 'crane'; give one of the indices \[2, 3\]"),
        (1.5, "expected the name or the index of a class, got 1.5"),
        (True, "expected the name or the index of a class, got True"),
        (" ", "expected the name or the index of a class"),
        ("x" * 10**6, r"mine has no class 'x{79}\.\.\. \(1,000,002 characters\); there are 'tabby'"),
        (["x"] * 10**6, r"or the index of a class, got \[.{79}\.\.\. \(5,000,000 characters\)$"),
        (["tabby"], "expected the name or the index of a class"),
        (float("inf"), "expected the name or the index of a class, got inf"),
    ):
        with pytest.raises(InputError, match=sentence):
            scores.index_of(value)
    digits = ClassScores(user_network(linear, "logits", ("3", "2", "1", "0")))
    assert [digits.index_of(v) for v in ("3", 3, "0")] == [0, 0, 3]  # a name goes before an index


def test_classes_of_a_batch(user_network) -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    scores = ClassScores(user_network(linear))
    assert scores.indices_of(["yes", 0, "1"], 3, "targets").tolist() == [1, 0, 1]
    assert scores.indices_of(torch.tensor([1, 0]), 2, "targets").tolist() == [1, 0]
    for values, sentence in (
        (["yes"], "targets must be one for each of 2 pictures, got 1"),
        (torch.tensor([0, 2]), r"targets must be from 0 to 1, got \[0, 2\]"),
        (torch.tensor([0.0, 1.0]), "targets must be whole numbers of shape"),
        (torch.tensor([[0, 1]]), "targets must be whole numbers of shape"),
        (["yes", "perhaps"], "mine has no class 'perhaps'"),
    ):
        with pytest.raises(InputError, match=sentence):
            scores.indices_of(values, 2, "targets")
