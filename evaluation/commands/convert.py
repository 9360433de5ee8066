"""`conceptry convert`: files of other programs to folders that conceptry loads."""

from pathlib import Path

import click

from conceptry.evaluation.console import Optional, say


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
    from conceptry.models.milan.convert import convert_describer

    done = convert_describer(file, output, encoder)
    describer = done.describer
    say(
        f"wrote {output}: {len(describer.vocabulary.words):,} words, encoder {describer.encoder.name} "
        f"({describer.encoder.n_features:,} features)"
    )
    if done.foreign:
        say(f"note: left out what the file holds of {', '.join(done.foreign)}", style="dim")
    say(f"use it by conceptry register milan --describer describer:{output}", style="dim")
