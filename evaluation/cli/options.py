"""What all commands share: where they print, how arguments are read, and options that several of them have."""

import functools
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from conceptry.evaluation.terminal import Terminal
from conceptry.models.errors import InputError
from conceptry.models.explained.protocol import IMAGENET
from conceptry.models.explained.source import HELP, OwnPreparation
from conceptry.models.milan.settings import INPUT_SIZE

# Tables keep their columns in files and pipes, which have no width of their own.
console = Terminal(emoji=False, highlight=False, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 130)
errors = Terminal(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


# Texts that a flag takes as its value where they follow it as an argument of their own.
_BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0")


class Flag(click.Option):
    """An option that is on by itself, and takes true or false besides: --small, --small true, --small=false.

    `mlflow run` gives every option a value, so it has no other way to say it.
    """

    def __init__(self, declarations: Sequence[str], default: bool | None = False, **attributes: Any) -> None:
        super().__init__(declarations, type=bool, default=default, show_default=False, **attributes)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        return " ".join(filter(None, (*self.opts, self.metavar))), self.help or ""


class NamedArgument(click.Argument):
    """An argument that can be given as the option `option` too: `mlflow run` has options alone."""

    def __init__(self, declarations: Sequence[str], option: str, **attributes: Any) -> None:
        self.option = option
        super().__init__(declarations, **attributes)


class Command(click.Command):
    """A command that takes what `mlflow run` makes of parameters, and refuses what click would drop in silence."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _canonical(self, ctx, args))


class Group(click.Group):
    """A group of such commands, with such options of its own."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _canonical(self, ctx, args))


command = functools.partial(click.command, cls=Command)
group = functools.partial(click.group, cls=Group)


def _canonical(command: click.Command, ctx: click.Context, args: Sequence[str]) -> list[str]:
    """Arguments as click takes them, from arguments as people and `mlflow run` write them.

    Underscores in the name of an option are hyphens; flags have a value; arguments that are given by name follow
    the others. Raises UsageError for an option that is given twice but takes one value, and for an empty text.
    """
    parameters = command.get_params(ctx)
    options = {name: each for each in parameters if isinstance(each, click.Option) for name in each.opts}
    arguments = {each.option: each for each in parameters if isinstance(each, NamedArgument)}
    waiting, known, by_name = list(args), [], []
    seen: set[str] = set()
    while waiting:
        text = waiting.pop(0)
        if text == "--" or (isinstance(command, click.Group) and not text.startswith("-")):
            waiting.insert(0, text)  # arguments that look like options, or those of the subcommand
            break
        name, equals, value = text.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        option = options.get(name) or arguments.get(name)
        if option is None:
            if not text:
                raise click.UsageError("an argument is empty; leave it out", ctx)
            known.append(text)
            continue
        if not isinstance(option, NamedArgument) and option.is_flag:  # click's own: --help, --version
            known.append(name)
            continue
        if not equals:
            if isinstance(option, Flag):
                value = waiting.pop(0) if waiting and waiting[0].lower() in _BOOLEANS else "true"
            elif waiting:
                value = waiting.pop(0)
            else:
                known.append(name)  # click says that a value is missing
                continue
        if not value:
            raise click.UsageError(f"{name} is empty; leave it out to get its default", ctx)
        several = option.nargs == -1 if isinstance(option, NamedArgument) else option.multiple
        if name in seen and not several:
            raise click.UsageError(f"{name} is given twice, but takes one value", ctx)
        seen.add(name)
        if isinstance(option, NamedArgument):
            by_name.append(value)
        else:
            known.append(f"{name}={value}")
    return known + (waiting or ["--"] * bool(by_name)) + by_name


size_option = click.option("--size", type=int, help="Maximum number of images or samples.")
seed_option = click.option("--seed", type=click.IntRange(min=0), default=0, help="Seed of the random draw.")
suppress_option = click.option(
    "--suppress", multiple=True, metavar="WORD", help="splice: leave this word out of every answer; may be repeated."
)
device_option = click.option("--device", default="auto", help="auto, cpu, cuda or cuda:INDEX.")


def layers_option(help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare --layer NAME, which may be repeated; it reaches the command as a list of names."""
    return click.option(
        "--layer",
        "layers",
        multiple=True,
        metavar="NAME",
        callback=lambda _, __, names: list(names),
        help=help,
    )


def network_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Declare what a user says of a network over images, as `register milan` does; it reaches the command as `said`."""
    names = {"classes": "classes", "size": INPUT_SIZE, "mean": "mean", "std": "std", "preprocessing": "preprocessing"}

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        texts = {name: values.pop(option) for name, option in names.items()}
        return command(said=OwnPreparation.of_texts(**texts, size_option=INPUT_SIZE), **values)

    for name, option in reversed(names.items()):
        kind = click.Choice([IMAGENET]) if name == "preprocessing" else None
        run = click.option(f"--{option.replace('_', '-')}", type=kind, help=HELP[name])(run)
    return run


only_layers_option = layers_option("Restrict to this layer; may be repeated. [default: all layers]")


def json_option(name: str, help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Declare an option that is read as a JSON object, an empty one where it is not given."""
    return click.option(
        name, metavar="JSON", callback=lambda _, __, text: json_object(text, name) if text else {}, help=help
    )


search_params_option = json_option("--params", 'Parameters of the search, e.g. {"strategy": "beam"}.')


def say(text: str, style: str | None = None) -> None:
    """Print a line as it is: names and paths may hold what would be markup."""
    console.print(text, style=style, markup=False)


def say_device(device: str) -> None:
    """Print on standard error which device something runs on."""
    errors.print(f"on {device}", style="dim")


def check_image(output: Path | None, suffixes: tuple[str, ...] = (".png", ".svg", ".pdf")) -> None:
    """Refuse an image file that could not be written, before the work rather than after it."""
    if output and output.suffix not in suffixes:
        kinds = " or ".join(filter(None, (", ".join(suffixes[:-1]), suffixes[-1])))
        raise InputError(f"--output must end in {kinds}, got {output}")
    check_folder(output, "--output")


def check_folder(file: Path | None, option: str) -> None:
    """Refuse a file that could not be written, before the work rather than after it."""
    if file and not file.parent.is_dir():
        raise InputError(f"{option} {file}: there is no folder {file.parent}")
    if file and file.is_dir():
        raise InputError(f"{option} {file}: expected a file, this is a folder")


def json_object(text: str, option: str) -> dict[str, Any]:
    """Parse the JSON object that an option holds. Raises InputError naming the option for anything else."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{option} must be JSON: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f'{option} must be a JSON object such as {{"top_k": 5}}, got {text}')
    return value


def check_params(uri: str, given: dict[str, Any]) -> None:
    """Refuse parameters that the version does not know: MLflow would drop them in silence."""
    if not given:
        return
    from mlflow.models import get_model_info

    from conceptry.registry.versions import check_known

    check_known(uri, get_model_info(uri).signature, given)
