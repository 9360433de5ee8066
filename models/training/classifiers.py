"""Train a classifier or regressor of the zoo, by the recipe of the method's authors: Adam, a falling learning rate.

| symbol | meaning |
|---|---|
| e, E | number of an epoch, from 0; epochs |
| c | classes of the data |
| p_1 ... p_m | values of each property of the images that is learned beside the class |
| o | outputs while training: c + p_1 + ... + p_m |
| epsilon | radius of the attacks |

Epoch e runs at the learning rate lr * 10^(-logspace * e / (E - 1)). The loss is the cross-entropy of the classes (of
one logit where the network has one), or the squared error of (y - m) / s with m and s of the training rows.

So that masked texts are not foreign to a text model, half of the sentences of each batch have words replaced by
[MASK]: each with a probability that is drawn for the sentence, uniformly from [0, 1].

A network of images can learn more than its classes tell. With properties it is trained with a longer last layer, whose
further outputs name properties of the images such as the background's colour; the loss is the mean cross-entropy of the
class and of each property. Those outputs are cut off afterwards, the units that learned to serve them stay. With a
start, all layers but the last are taken over from a network that ships, and all are trained on.

With an `adversarial_epsilon`, a network of images sees each image attacked, as in Madry, Makelov, Schmidt, Tsipras,
Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018: by projected gradient ascent on the
loss, within an L2 ball around the image. The steps are those of L2Projected with lr = 2.5 epsilon / steps: together
they could reach 2.5 times as far as the border, so the whole ball is within reach. The attack starts at the image
itself, so that no generator is needed; what it returns may leave [0, 1]. The network is attacked as it then stands:
normalised by the statistics so far, not by the batch's. The attacks' radius rises evenly from 0 to epsilon over the
first `adversarial_ramp` of all steps. Without that ramp more is lost on images that nobody attacked: on rows held back
from the training of digits-16-robust its accuracy was .92 instead of .97.

Only training rows are read, on the CPU. The same settings on the same number of threads give the same weights, byte
for byte; no global generator is touched.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.architectures import (
    ARCHITECTURES,
    HIDDEN,
    SINGLE_LOGIT,
    Shape,
    build_network,
)
from conceptry.models.explained.classifiers.classifier import Classifier, Description, read_classifier
from conceptry.models.explained.classifiers.features import (
    MASK,
    PAD,
    build_vocabulary,
    image_features,
    padded,
    table_features,
    table_owner,
    token_ids,
)
from conceptry.models.perturbation import L2Projected, gradient_ascent
from conceptry.models.perturbation.optimizers.projected import usual_lr
from conceptry.models.shipped import weights_directory
from conceptry.models.training.recipes import ClassifierTraining, network_of
from conceptry.models.zoo.datasets import Dataset


def l2_attack(
    network: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, epsilon: float, steps: int
) -> Tensor:
    """`images` (batch, C, H, W), pixels in [0, 1], each moved by at most `epsilon` to raise its cross-entropy.

    targets: (batch,), int64, the classes to get away from. A torch module attacks as it stands in evaluation mode, so
    its statistics are not touched.
    """
    attacked, _ = gradient_ascent(
        model=network,
        data=images,
        target=targets,
        optimizer=L2Projected,
        steps=steps,
        epsilon=epsilon,
        lr=usual_lr(epsilon, steps),
    )
    return attacked


LAST = "output"  # the name of the last layer of the architecture `stages`


def property_sizes(properties: np.ndarray) -> tuple[int, ...]:
    """p_1 ... p_m of properties int64 (n, m), each counted from 0."""
    return tuple(int(size) + 1 for size in properties.max(axis=0))


def widen(shape: Shape, sizes: tuple[int, ...]) -> Shape:
    """The shape of the network that is trained: o outputs. Raises InputError for other architectures than stages."""
    if shape.arch != "stages":
        raise InputError(f"properties are learned by the architecture stages alone, got {shape.arch}")
    return replace(shape, n_outputs=shape.n_outputs + sum(sizes))


def joint_loss(outputs: Tensor, classes: Tensor, properties: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Mean cross-entropy of outputs (batch, o) for classes (batch,) and for each column of properties (batch, m)."""
    parts = outputs.split((outputs.shape[1] - sum(sizes), *sizes), dim=1)
    targets = (classes, *properties.T)
    losses = [functional.cross_entropy(part, target) for part, target in zip(parts, targets, strict=True)]
    return torch.stack(losses).mean()


def cut(network: nn.Module, shape: Shape) -> nn.Module:
    """The network of `shape` with the first outputs of a widened one."""
    state = dict(network.state_dict())
    for name in (f"{LAST}.weight", f"{LAST}.bias"):
        state[name] = state[name][: shape.n_outputs].clone()
    with torch.device("meta"):
        narrow = build_network(shape)
    narrow.load_state_dict(state, assign=True)
    return narrow


def start_from(network: nn.Module, shape: Shape, name: str) -> None:
    """Give all layers of `network` but the last the weights of the network `zoo:name`.

    Raises InputError where that is of another architecture, width or size of images.
    """
    other = read_classifier(weights_directory(name, "classifier"), torch.device("cpu"), f"zoo:{name}")
    theirs = other.description.shape
    if shape.arch != "stages" or replace(theirs, n_outputs=0, dropout=0.0) != replace(shape, n_outputs=0, dropout=0.0):
        raise InputError(f"start must be a network of the same shape {shape}, zoo:{name} is {theirs}")
    state = {key: value for key, value in other.network.state_dict().items() if not key.startswith(f"{LAST}.")}
    network.load_state_dict(state, strict=False)


OnEpoch = Callable[[int, dict[str, float]], None]


def train_classifier(settings: ClassifierTraining, dataset: Dataset, on_epoch: OnEpoch | None = None) -> Classifier:
    """A classifier trained on the training rows of `dataset`, called `zoo:NAME`.

    A network trained under attack is called `zoo:NAME-robust`. on_epoch: called after each epoch with its number
    (from 1), its mean loss and its learning rate. Raises InputError where the architecture does not read the data's
    modality, for attacks on other data than images, and for properties that the data do not have.
    """
    description = _describe(settings, dataset)
    inputs, lengths = _features(description, dataset)
    targets = torch.from_numpy(dataset.targets[dataset.train])
    if dataset.task == "regression":
        targets = ((targets - description.target_mean) / description.target_std).float()
    properties, sizes, shape = None, (), description.shape
    if settings.properties:
        assert dataset.properties is not None  # _describe refuses that
        properties, sizes = torch.from_numpy(dataset.properties[dataset.train]), property_sizes(dataset.properties)
        shape = widen(shape, sizes)
    rng = np.random.default_rng(settings.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_network(shape).train()
        if settings.start:
            start_from(network, shape, settings.start)
        optimizer = _optimizer(settings, network)
        n_steps = 0
        for epoch in range(settings.epochs):
            rate = settings.lr * 10 ** (-settings.logspace * epoch / max(settings.epochs - 1, 1))
            for group in optimizer.param_groups:
                group["lr"] = rate
            total = 0.0
            order = _order(settings, dataset, rng)
            n_batches = math.ceil(len(order) / settings.batch_size)
            for start in range(0, len(order), settings.batch_size):
                rows = torch.from_numpy(order[start : start + settings.batch_size])
                x = inputs[rows]
                if radius := _radius(settings, n_steps / (settings.epochs * n_batches)):
                    x = l2_attack(network, x, targets[rows], radius, settings.adversarial_steps)
                if lengths is None:
                    outputs = network(x)
                else:
                    x = _mask_words(x[:, : int(lengths[rows].max())], rng)
                    outputs = network(network.embedding(x), lengths[rows])  # type: ignore[operator]  # a module
                if properties is None:
                    loss = _loss(outputs, targets[rows])
                else:
                    loss = joint_loss(outputs, targets[rows], properties[rows], sizes)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                n_steps += 1
                total += loss.item() * len(rows)
            if on_epoch:
                on_epoch(epoch + 1, {"loss": total / len(order), "learning_rate": rate})
    if sizes:
        network = cut(network, description.shape)
    name = f"zoo:{network_of(dataset.name, settings)}"
    return Classifier(name, description, network, torch.device("cpu"))


def _describe(settings: ClassifierTraining, dataset: Dataset) -> Description:
    if settings.arch not in ARCHITECTURES[dataset.modality]:
        known = ", ".join(ARCHITECTURES[dataset.modality])
        raise InputError(f"{settings.arch} does not read {dataset.name} ({dataset.modality}); expected one of {known}")
    if settings.adversarial_epsilon and dataset.modality != "image":
        raise InputError(f"adversarial_epsilon is for images, and {dataset.name} holds the kind {dataset.modality}")
    if settings.properties and dataset.properties is None:
        raise InputError(f"{dataset.name} has no properties to be learned beside its classes")
    vocabulary: tuple[str, ...] = ()
    mean, std, n_outputs = 0.0, 1.0, len(dataset.classes)
    if dataset.task == "regression":
        y = dataset.targets[dataset.train]
        mean, std = float(y.mean()), float(y.std()) or 1.0
    elif n_outputs == 2 and settings.arch in SINGLE_LOGIT:
        n_outputs = 1
    if dataset.modality == "table":
        sizes = (len(table_owner(dataset.columns)),)
    elif dataset.modality == "text":
        vocabulary = build_vocabulary(dataset.take(dataset.train), settings.vocabulary_size, settings.min_count)
        sizes = (len(vocabulary),)
    else:
        grey = all(np.array_equal(dataset.inputs[..., 0], dataset.inputs[..., channel]) for channel in (1, 2))
        sizes = (1 if grey else 3, *dataset.inputs.shape[1:3])
    embedding = settings.embedding if dataset.modality == "text" else 0
    hidden = settings.hidden or HIDDEN.get(settings.arch, 100)
    shape = Shape(settings.arch, sizes, n_outputs, hidden, embedding, settings.dropout)
    form = "values" if dataset.task == "regression" else "logits"
    return Description(shape, dataset.modality, form, dataset.classes, dataset.columns, vocabulary, mean, std)


def _features(description: Description, dataset: Dataset) -> tuple[Tensor, Tensor | None]:
    """What the network reads of the training rows: features (n, *features), or tokens (n, longest) and lengths (n,)."""
    training = dataset.take(dataset.train)
    if dataset.modality == "table":
        return torch.from_numpy(table_features(training, dataset.columns)), None
    if dataset.modality == "image":
        return torch.from_numpy(image_features(training, description.shape.inputs)), None
    index = {token: i for i, token in enumerate(description.vocabulary)}
    ids, lengths = padded(token_ids(training, index))
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def _order(settings: ClassifierTraining, dataset: Dataset, rng: np.random.Generator) -> np.ndarray:
    """The training rows of one epoch: each once, or as many drawn with all classes equally likely."""
    n = len(dataset.train)
    if not settings.balanced or dataset.task == "regression":
        return rng.permutation(n)
    labels = dataset.targets[dataset.train]
    weights = 1 / np.bincount(labels)[labels]
    return rng.choice(n, size=n, p=weights / weights.sum())


def _radius(settings: ClassifierTraining, done: float) -> float:
    """The attacks' radius that is due once the share `done` of all steps is over."""
    if done >= settings.adversarial_ramp:
        return settings.adversarial_epsilon
    return settings.adversarial_epsilon * done / settings.adversarial_ramp


def _mask_words(ids: Tensor, rng: np.random.Generator) -> Tensor:
    """Mask words of half of the sentences, each by a probability that is drawn for the sentence."""
    share = np.where(rng.random(len(ids)) < 0.5, rng.random(len(ids)), 0.0)
    hit = torch.from_numpy(rng.random(ids.shape) < share[:, None])
    return torch.where(hit & (ids != PAD), MASK, ids)


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return functional.mse_loss(outputs[:, 0], targets)
    if outputs.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())
    return functional.cross_entropy(outputs, targets)


def _optimizer(settings: ClassifierTraining, network: nn.Module) -> torch.optim.Optimizer:
    if settings.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), settings.lr, momentum=0.9, weight_decay=settings.weight_decay)
    return torch.optim.AdamW(network.parameters(), settings.lr, weight_decay=settings.weight_decay)
