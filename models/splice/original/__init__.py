"""The published implementation's names: the class SPLICE, `load`, and the means over images, classes and data sets.

For scripts that were written for AI4LIFE-GROUP/SpLiCE: names, order of arguments, defaults and results are theirs.
`SPLICE` is a `Splice` as well, so it explains and registers. Where the two differ:

| method | `Splice` | `SPLICE` |
|---|---|---|
| `decompose` | of embeddings as the encoder gives them, a `Decomposition` | of centred ones, dense weights |
| `encode_text` | decomposes | gives the unit embedding, unless `decomp_text` |
| `encode_image` | gives weights or z_hat | the same, with `return_cosine` a pair with the summed cosine |
"""

from conceptry.models.splice.original.decompositions import (
    ClassSummaries,
    ConceptSummary,
    decompose_classes,
    decompose_dataset,
    decompose_image,
)
from conceptry.models.splice.original.model import (
    SPLICE,
    available_models,
    get_preprocess,
    get_tokenizer,
    get_vocabulary,
    load,
)

__all__ = [
    "SPLICE",
    "ClassSummaries",
    "ConceptSummary",
    "available_models",
    "decompose_classes",
    "decompose_dataset",
    "decompose_image",
    "get_preprocess",
    "get_tokenizer",
    "get_vocabulary",
    "load",
]
