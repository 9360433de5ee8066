"""What all commands share: where they print, and how options are read and checked."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from conceptry.models.errors import InputError

# Tables keep their columns in files and pipes, which have no width of their own.
console = Console(emoji=False, highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 130)
errors = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


class Optional(click.ParamType):
    """A type that takes an empty text as "not given": entry points of MLproject have no other way to say it."""

    def __init__(self, kind: Any) -> None:
        self.kind = click.types.convert_type(kind)
        self.name = self.kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "" else self.kind.convert(value, param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:
        return self.kind.get_metavar(param, ctx)


size_option = click.option("--size", type=Optional(int), help="At most so many pictures or samples.")
seed_option = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Which ones are drawn."
)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:INDEX.")


def layers_option(help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--layer NAME, which may be repeated, as a list of names."""
    return click.option(
        "--layer",
        "layers",
        multiple=True,
        metavar="NAME",
        callback=lambda _, __, names: [name for name in names if name],  # an empty text of MLproject says "none"
        help=help,
    )


only_layers_option = layers_option("Only this layer; may be repeated. [default: all]")


def json_option(name: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """An option that is read as a JSON object."""
    return click.option(name, default="{}", callback=lambda _, __, text: json_object(text, name), help=help)


search_params_option = json_option("--params", 'Parameters of the search as JSON, as {"strategy": "beam"}.')


def say(text: str, style: str | None = None) -> None:
    """Print a line as it is: names and paths may hold what would be markup."""
    console.print(text, style=style, markup=False)


def say_device(device: str) -> None:
    """Say on standard error where something runs."""
    errors.print(f"on {device}", style="dim")


def check_picture(output: Path | None, suffixes: tuple[str, ...] = (".png", ".svg", ".pdf")) -> None:
    """Refuse a picture that could not be written, before the work rather than after it."""
    if output and output.suffix not in suffixes:
        raise InputError(f"--output must end in {', '.join(suffixes[:-1])} or {suffixes[-1]}, got {output}")
    check_folder(output, "--output")


def check_folder(file: Path | None, option: str) -> None:
    """Refuse a file that could not be written, before the work rather than after it."""
    if file and not file.parent.is_dir():
        raise InputError(f"{option} {file}: there is no folder {file.parent}")
    if file and file.is_dir():
        raise InputError(f"{option} {file}: expected a file, this is a folder")


def json_object(text: str, option: str) -> dict[str, Any]:
    """The JSON object that an option holds. Raises InputError naming the option for anything else."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{option} must be JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f'{option} must be a JSON object as {{"top_k": 5}}, got {text}')
    return value


def check_params(uri: str, given: dict[str, Any]) -> None:
    """Refuse parameters that the version does not know: MLflow would drop them in silence."""
    if not given:
        return
    from mlflow.models import get_model_info

    signature = get_model_info(uri).signature
    known = [spec.name for spec in signature.params] if signature and signature.params else []
    if unknown := sorted(given.keys() - set(known)):
        raise InputError(f"{uri} has no parameter {unknown[0]!r}; expected one of {', '.join(known) or 'none'}")
