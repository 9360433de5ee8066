"""The reference of the command line, made from click's own description of it."""

import inspect
import re
from collections.abc import Iterator

import click

from conceptry.evaluation.cli.app import cli

HEAD = """# Command line

Made from the commands themselves. `conceptry COMMAND --help` prints the same in a terminal. Every command is also an
entry point of `MLproject`: `mlflow run . -e compare -P name=emoji-splice --env-manager local`.

Errors are one line on standard error. The exit code is 2 for misuse, 1 for anything else that was refused, 130 after
an interruption; `CONCEPTRY_DEBUG=1` shows where an unexpected error came from.
"""


def cli_page() -> str:
    """The whole page, in Markdown."""
    return HEAD + "\n".join(_sections(click.Context(cli, info_name="conceptry")))


def commands(context: click.Context) -> Iterator[click.Context]:
    """The context of a command and, for a group, those of all below it."""
    yield context
    group = context.command
    if isinstance(group, click.Group):
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from commands(click.Context(command, info_name=name, parent=context))


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
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    metavar = "" if option.is_flag else option.make_metavar(context)
    choices = re.fullmatch(r"\[(.+)\]", metavar)
    value = " ".join(f"`{name}`" for name in choices[1].split("|")) if choices else f"`{metavar}`" if metavar else ""
    record = option.get_help_extra(context)
    notes = [f"default: {record['default']}"] if "default" in record else []
    notes += ["repeatable"] * bool(option.multiple) + ["required"] * option.required
    text = (option.help or "") + (f" [{'; '.join(notes)}]" if notes else "")
    return f"| {names} | {value} | {cell(text)} |"


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
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]|])", r"\\\1", part) for part in parts)


def cell(text: str) -> str:
    """Text on one line of a table."""
    return escaped(" ".join(text.split()))
