"""Learn the map of a classifier's features into the space of texts from images without labels (TextUnlock).

"Unlocking Text Capabilities in Vision Models", 2025, arXiv:2503.10981; `conceptry.models.encoders.text_unlock` has the
map. It is learnt by

    min over the map:  mean over images of  - sum over c of p_c log softmax_c(f . s_c / t)

| symbol | meaning | shape |
|---|---|---|
| p | what the classifier answers: the softmax of its logits | (classes,) |
| S | vectors s_c of the classes | (classes, d) |
| B | orthonormal basis of the rows of S, where the map ends | (d, r) |

Images are parted once: three fifths are learnt from, one says when the map was best, and the last one, which has a part
in nothing, how good it is. Agreement is the share of images whose nearest s_c is the classifier's own first class.
Beside it stand that of ConSE, which learns nothing, and of the constant answer that is right most often.

Differences from the paper: the map ends in the span of S, for what is orthogonal to all classes cannot be learnt from
p, and would add to embeddings what the map was drawn with; classes are written by their names alone, or as `zoo:photos`
writes ImageNet's; the temperature t stays at .1. A lower one lets small differences of cosines stand for large ones of
p, and embeddings leave the neighbourhood of the texts: learnt, it gave half as many right words at the same agreement.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from conceptry.models.encoders.conse import MAP, ConseEncoder, mixtures
from conceptry.models.encoders.text_unlock import PREFIX, TextUnlockEncoder, find_head, perceptron, without_layer
from conceptry.models.encoders.token_vectors import TokenVectors, read_wordllama
from conceptry.models.errors import InputError
from conceptry.models.explained.base import without_folders
from conceptry.models.explained.image_inputs import TorchImages
from conceptry.models.explained.loaders.vision import Network, imagenet_names
from conceptry.models.explained.preprocessing import Preprocessing
from conceptry.models.images import open_image
from conceptry.models.manifest import read_tensors
from conceptry.models.method import Progress
from conceptry.models.shipped import weights_directory
from conceptry.models.training.photos import ATTRIBUTION, check_whole_numbers, class_vectors

FEWEST = 50  # images
K = 10  # classes that an image is a mixture of where the folder is read as ConSE
_BATCH = 64  # images in one call of the classifier
_EVERY = 25  # steps between two looks at the images that say when the map is best
_SAME = 0.9999  # cosine from which two classes are written alike
_COPIED = ("image_mean.safetensors", "vocabulary.txt")
_ATTRIBUTION = """
The vectors of tokens in this folder are those of wordllama. Classes of a network that is not one of ImageNet are
written as the user has named them. The network is the user's own.
"""


@dataclass(frozen=True)
class TextUnlockTraining:
    """Settings. Raises InputError for values outside their bounds.

    hidden: m, units of the hidden layer. batch_size: images a step. temperature: t.
    """

    steps: int = 1000
    seed: int = 0
    hidden: int = 512
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    temperature: float = 0.1

    def __post_init__(self) -> None:
        check_whole_numbers(self, ("steps", 1, 100_000), ("hidden", 1, 8192), ("batch_size", 2, 8192))


@dataclass(frozen=True)
class Learnt:
    """The map, and how it did. agreement, agreement_conse, agreement_constant: shares of `held_out` images.

    training, stopping: images that it was learnt from, and that chose `step`.
    """

    map: nn.Sequential
    agreement: float
    agreement_conse: float
    agreement_constant: float
    held_out: int
    training: int
    stopping: int
    step: int

    @property
    def figures(self) -> dict[str, float]:
        """All but the map."""
        return {name: value for name, value in vars(self).items() if name != "map"}


def check_classifier(model: Any) -> TorchImages:
    """`model`; raises InputError unless it is a network over images that a folder can carry, with named classes."""
    if not (
        isinstance(model, TorchImages)
        and isinstance(model.source, Network)
        and isinstance(model.preparation, Preprocessing)
    ):
        raise InputError(
            f"{model.name}: expected an image classifier by imagenet:NAME, torchvision:ARCH@FILE or timm:ARCH[@FILE]"
        )
    if list(model.classes) == [f"class_{i}" for i in range(len(model.classes))]:
        raise InputError(
            f"{model.name}: its file does not say what its {len(model.classes)} classes are called; give --classes "
            "FILE, a text file with one name a line in the order of its outputs"
        )
    return model


def learn_map(
    features: Tensor,
    logits: Tensor,
    classes: Tensor,
    settings: TextUnlockTraining,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Learnt:
    """The map from features (n, D) to (d,), given the classifier's logits (n, C) and S (C, d).

    on_step: called with the step, its loss and, from time to time, the agreement that says when the map is best.
    """
    draw = torch.Generator().manual_seed(settings.seed)
    order = torch.randperm(len(features), generator=draw)
    held_out, stopping, training = order.split([n := len(order) // 5, n, len(order) - 2 * n])
    mean, std = features[training].mean(dim=0), features[training].std(dim=0)
    std = torch.where(std > 1e-6 * std.max(), std, torch.ones_like(std))
    x, p, own = (features - mean) / std, logits.softmax(dim=1), logits.argmax(dim=1)
    basis = _basis(classes)
    inside = classes @ basis  # S in the basis
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = perceptron(features.shape[1], settings.hidden, basis.shape[1])
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)

    def scores(rows: Tensor) -> Tensor:
        return normalize(network(x[rows]), dim=1) @ inside.T / settings.temperature

    best, kept, best_step = (-1.0, 0.0), network.state_dict(), 0
    for step in range(1, settings.steps + 1):
        rows = training[torch.randint(len(training), (min(settings.batch_size, len(training)),), generator=draw)]
        loss = cross_entropy(scores(rows), p[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values = {"loss": loss.item()}
        if step % _EVERY == 0 or step == settings.steps:
            with torch.no_grad():
                found = scores(stopping)
                share = _share(found.argmax(dim=1) == own[stopping])
                # Of maps that agree as often, the one that is nearer to p.
                now = share, -cross_entropy(found, p[stopping]).item()
            values["stopping_agreement"] = share
            if now > best:
                best, best_step = now, step
                kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        if on_step is not None:
            on_step(step, values)
    network.load_state_dict(kept)
    map_ = _folded(network, mean, std, basis)
    with torch.no_grad():
        z = normalize(map_(features[held_out]), dim=1)
    conse = mixtures(logits[held_out], classes, min(K, len(classes)))
    answers = own[held_out]
    return Learnt(
        map_,
        agreement=_share((z @ classes.T).argmax(dim=1) == answers),
        agreement_conse=_share((conse @ classes.T).argmax(dim=1) == answers),
        agreement_constant=_share(answers == answers.mode().values),
        held_out=len(held_out),
        training=len(training),
        stopping=len(stopping),
        step=best_step,
    )


def build_text_unlock(
    model: TorchImages,
    files: Sequence[Path],
    settings: TextUnlockTraining,
    directory: Path,
    show: Progress = lambda what, share: None,
    on_step: Callable[[int, dict[str, float]], None] | None = None,
) -> Learnt:
    """Learn the map of `model` from image files, and write the encoder's folder.

    show: told what is done, and which share of it. Raises InputError for fewer than 50 images, for files that are no
    images, for networks without features, and for classes that are written alike.
    """
    if len(files) < FEWEST:
        raise InputError(f"a map is learnt from at least {FEWEST} images, got {len(files)}")
    head = find_head(model)
    shipped = weights_directory("photos")
    space = read_tensors(shipped / "conse.safetensors")
    texts = read_wordllama("conceptry train photos --images")
    vectors = _class_vectors(model, texts, space)
    config = {
        "classifier": without_folders(model.name),
        "k": min(K, len(vectors)),
        "preprocessing": model.preparation.to_json(),
    }
    tensors = {"class_vectors": vectors, "text_mean": space["text_mean"]}
    plain = ConseEncoder(model.name, model, texts, config, tensors)
    features, logits = _observed(plain, without_layer(model.module, head), files, show)
    learnt = learn_map(features, logits, vectors.float(), settings, on_step)
    known = {"head": head} | learnt.figures
    state = {f"{PREFIX}{name}": tensor for name, tensor in learnt.map.state_dict().items()}
    TextUnlockEncoder(model.name, model, texts, config | {MAP: known}, tensors | state).save(directory)
    for name in _COPIED:
        shutil.copyfile(shipped / name, directory / name)
    (directory / "ATTRIBUTION.txt").write_text(ATTRIBUTION + _ATTRIBUTION, encoding="utf-8")
    return learnt


def _class_vectors(model: TorchImages, texts: TokenVectors, space: dict[str, Tensor]) -> Tensor:
    """S (classes, d), float16: ImageNet's with definitions, as they ship; others by their names.

    Raises InputError where two classes have one vector, or a name has no tokens.
    """
    if model.classes == imagenet_names():
        return space["class_vectors"]
    written = [name.replace("_", " ") for name in model.classes]
    rows = class_vectors(texts, written, space["text_mean"].double().numpy())
    alike = np.argwhere(np.triu(rows @ rows.T, 1) > _SAME)
    if len(alike):
        first, second = (model.classes[i] for i in alike[0])
        raise InputError(
            f"{model.name}: the classes {first!r} and {second!r} are the same words to the vectors of texts; name them "
            "apart by --classes FILE"
        )
    return torch.from_numpy(rows).half()


@torch.no_grad()
def _observed(
    encoder: ConseEncoder, features_of: nn.Module, files: Sequence[Path], show: Progress
) -> tuple[Tensor, Tensor]:
    """Features (n, D) and logits (n, C) of all images, on the CPU, as the encoder will see them."""
    features, logits = [], []
    for start in range(0, len(files), _BATCH):
        show(f"{start} of {len(files)} images through the classifier", start / len(files))
        pixels = torch.stack([encoder.preprocess(open_image(path)) for path in files[start : start + _BATCH]])
        pixels = pixels.to(encoder.device, memory_format=torch.channels_last)
        features.append(features_of(pixels).float().cpu())
        logits.append(encoder.model.visual(pixels).float().cpu())
    return torch.cat(features), torch.cat(logits)


def _basis(classes: Tensor) -> Tensor:
    """B (d, r)."""
    _, values, rows = torch.linalg.svd(classes.double(), full_matrices=False)
    return rows[values > 1e-4 * values[0]].T.float()


def _folded(network: nn.Sequential, mean: Tensor, std: Tensor, basis: Tensor) -> nn.Sequential:
    """The map of features as they are, into the whole space: scaling and basis are in its layers."""
    state = network.state_dict()
    w, b, v, c = (state[name].double() for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    w = w / std.double()
    b, v, c = b - w @ mean.double(), basis.double() @ v, basis.double() @ c
    whole = perceptron(w.shape[1], w.shape[0], v.shape[0])
    whole.load_state_dict({"0.weight": w, "0.bias": b, "2.weight": v, "2.bias": c})
    return whole.requires_grad_(False)


def _share(right: Tensor) -> float:
    return right.double().mean().item()
