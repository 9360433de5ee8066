"""What encoders of a classifier and token vectors are made of, small."""

from pathlib import Path
from typing import Any

import pytest
import torch

from conceptry.models.encoders.token_vectors import StaticTokenizer, TokenVectors
from conceptry.models.explained.load import load_explained


@pytest.fixture(scope="session")
def conse_parts(checkpoint: Path) -> tuple[Any, TokenVectors, dict[str, Any], dict[str, torch.Tensor]]:
    """Three classes of an untrained network, and five words of four dimensions."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(("a", "red", "dog", "cat", "?"))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(5, 4, generator=draw).half()
    classifier: Any = load_explained(f"torchvision:squeezenet1_1@{checkpoint}", "cpu", outputs="logits")
    config = {"k": 2, "preprocessing": classifier.preparation.to_json()}
    tensors = {
        "class_vectors": torch.nn.functional.normalize(torch.randn(3, 4, generator=draw), dim=1).half(),
        "text_mean": torch.full((4,), 0.1),
    }
    texts = TokenVectors(StaticTokenizer(tokenizer.to_str().encode()), vectors)
    return classifier, texts, config, tensors
