"""The reference of the command line, made from click's own description of it."""

import inspect
import re
from collections.abc import Iterator

import click

from conceptry.evaluation.cli.app import cli

HEAD = """# Command line

Made from the commands themselves: `conceptry COMMAND --help` prints the same in a terminal.

Every command but `ui`, which runs until it is stopped, is also an entry point of `MLproject`, whose parameters are the
options:
`mlflow run . -e register -P method=splice -P l1_penalty=0.2 --env-manager local`. A flag is given there as
`-P quick=true`, and an argument that may be left out by its name.

Errors are one line on standard error. The exit code is 2 for misuse, 1 for anything else that was refused, 130 after
an interruption; `CONCEPTRY_DEBUG=1` shows where an unexpected error came from.
"""


def cli_page() -> str:
    """The whole page, in Markdown."""
    return HEAD + "\n".join(_sections(context_of(cli, "conceptry")))


def context_of(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    """The context in which a command describes itself."""
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def commands(context: click.Context) -> Iterator[click.Context]:
    """The context of a command and, for a group, those of all below it."""
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from commands(context_of(command, name, context))


def _sections(root: click.Context) -> Iterator[str]:
    for context in commands(root):
        path = context.command_path
        depth = "#" * min(2 + path.count(" "), 3) if context is not root else "##"
        yield f"\n{depth} `{path}` {{ #{path.replace(' ', '-')} }}\n"
        yield _prose(context.command.help or "")
        usage = " ".join([path, *context.command.collect_usage_pieces(context)])
        yield f"\n```text\n{usage}\n```\n"
        if isinstance(context.command, click.Group):
            yield "\n| command | |\n|---|---|"
            for name in context.command.list_commands(context):
                command = context.command.get_command(context, name)
                assert command is not None
                anchor = f"{path} {name}".replace(" ", "-")
                yield f"| [`{name}`](#{anchor}) | {cell(command.get_short_help_str(200))} |"
        options = [p for p in context.command.params if isinstance(p, click.Option) and not p.hidden]
        if options:
            yield "\n| option | value | |\n|---|---|---|"
            yield from (_row(option, context) for option in options)


def _row(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None  # hidden options are not listed
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    metavar = record[0].rpartition(option.opts[-1])[2].strip()
    choices = re.fullmatch(r"\[(.+)\]", metavar)
    value = " ".join(f"`{name}`" for name in choices[1].split("|")) if choices else f"`{metavar}`" if metavar else ""
    return f"| {names} | {value} | {cell(record[1])} |"


def _prose(text: str) -> str:
    """Help as paragraphs; one that click leaves as it is (after a backspace) is a block of code."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b"):
            paragraphs.append(f"```text\n{paragraph.removeprefix(chr(8)).strip(chr(10))}\n```")
        else:
            paragraphs.append(escaped(" ".join(paragraph.split())))
    return "\n\n".join(paragraphs)


def escaped(text: str) -> str:
    """Text as it is, where Markdown or HTML would read markup; what is between backticks stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>{}\[\]|])", r"\\\1", part) for part in parts)


def cell(text: str) -> str:
    """Text on one line of a table."""
    return escaped(" ".join(text.split()))
