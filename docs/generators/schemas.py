"""The reference of what a served version takes and gives, made from the signatures and docstrings of the pyfuncs."""

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from cli import cell
from mlflow.types.schema import AnyType, Array, ColSpec, DataType, Object, ParamSpec

from conceptry.models.method import METHODS, load_method

TITLES = {"splice": "SpLiCE", "harsanyi": "Harsanyi", "perturbation": "Perturbation", "milan": "MILAN"}
HEAD = """# Serving schemas

What `mlflow models serve`, `mlflow.pyfunc` and Spark accept and return for a registered version of each method. This
page is generated from the signatures that versions are registered with; [Serve a version](../how-to/serve.md) says how
to send a request.

MLflow regards every column of a request as optional. Many are typed `any`, so that a null or a wrong value gets a
sentence from conceptry rather than from MLflow: a bad row is answered with one `400` that names the row and the column.
A parameter that is left out keeps the value that the version was registered with.
"""
# The parameters that are not hyperparameters of a version; the others have the help of `conceptry register`.
PARAMETERS = {
    ("splice", "top_k"): "Maximum number of concepts to list for each row.",
    ("splice", "suppress"): "Words whose weights are set to zero after solving.",
    ("splice", "return_embedding"): "Add the columns `embedding` and `recomposed`, both of unit norm.",
    ("harsanyi", "target"): "Output to explain: a class by name or index.",
    ("harsanyi", "top_k"): "Maximum number of patterns to list for each row.",
    ("harsanyi", "denoise"): "List only the patterns that denoising keeps.",
    ("harsanyi", "details"): "Add the columns `players`, `rewards`, `interactions`, `or_interactions`, `terms`, "
    "`learning` and `sample`.",
    ("harsanyi", "subsets"): "JSON list of lists of players by number: the answer has the `rewards` of these alone.",
    ("perturbation", "details"): "Add the columns `start`, `history` and `path`.",
    ("milan", "exemplars"): "Fill the columns `images` and `masks` for a unit of the registered network.",
}


def schemas_page() -> str:
    """The whole page, in Markdown."""
    return HEAD + "\n".join(line for name in METHODS for line in _section(name)) + "\n"


def _section(name: str) -> Iterator[str]:
    method = load_method(name)
    explainer = method.explainer_class()
    module = importlib.import_module(explainer.__module__)
    prose, meanings = _read(_docstring(module), f"{name}-answer")
    yield f"\n## {TITLES[name]} {{ #{name} }}\n"
    yield prose
    inputs, outputs, params = _schemas(explainer, module)
    *of_request, of_answer = meanings
    if inputs:
        first = of_request[0] if of_request else {}
        yield from _columns(f"Request to {TITLES[name]}", f"{name}-request", inputs, first)
    yield from _columns(f"Answer of {TITLES[name]}", f"{name}-answer", outputs, of_answer)
    yield f"\n### Parameters of {TITLES[name]} {{ #{name}-parameters }}\n"
    yield "| parameter | type | default | meaning |\n|---|---|---|---|"
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(method.options)}
    for spec in params:
        kind = type_name(spec.dtype) if spec.shape is None else f"list of {type_name(spec.dtype)}"
        default = "as registered" if spec.default is None else f"`{str(spec.default).lower()}`"
        text = PARAMETERS.get((name, spec.name)) or re.sub(r" \[default.*\]$", "", helps[spec.name])
        yield f"| `{spec.name}` | {kind} | {default} | {cell(text)} |"


def _columns(title: str, anchor: str, specs: Sequence[ColSpec], meanings: Mapping[str, str]) -> Iterator[str]:
    yield f"\n### {title} {{ #{anchor} }}\n\n| column | type |{' meaning |' if meanings else ''}"
    yield "|---|---|---|" if meanings else "|---|---|"
    for spec in specs:
        line = f"| `{spec.name}` | `{type_name(spec.type)}` |"
        yield f"{line} {cell(meanings[str(spec.name)])} |" if meanings else line


def _schemas(explainer: Any, module: Any) -> tuple[Sequence[ColSpec], Sequence[ColSpec], Sequence[ParamSpec]]:
    """Columns of a request, columns of an answer, parameters.

    The request of harsanyi depends on the explained model, so the class has no signature of its own.
    """
    signature = getattr(explainer, "signature", None)
    if signature is None:
        return (), list(module._OUTPUTS), list(module._PARAMS)
    return list(signature.inputs), list(signature.outputs), list(signature.params)


def _docstring(module: ModuleType) -> str:
    """The docstring; where it names another module of the method for what answers have, with the table of that one."""

    def table(sentence: re.Match[str]) -> str:
        other = importlib.import_module(f"{module.__package__}.{sentence[1]}")
        rows = re.search(
            r"^\| field of an answer \| what \|\n((?:\|.*\n?)+)", inspect.getdoc(other) or "", re.MULTILINE
        )
        assert rows is not None
        return f"The answer has for each row\n\n| column | what |\n{rows[1].rstrip()}\n\n"

    pattern = r"The table in `(\w+)` lists what the answer has\s+for each row\.\s*"
    return re.sub(pattern, table, inspect.getdoc(module) or "")


def _read(text: str, answer: str) -> tuple[str, list[dict[str, str]]]:
    """A docstring without its tables of columns, and what each of these, the last of the answer, says of its columns.

    A row may be about several columns, separated by commas.
    """
    tables: list[dict[str, str]] = []

    def read(table: re.Match[str]) -> str:
        cells = [line.strip().strip("|").split(" | ") for line in table[0].strip().splitlines()[2:]]
        tables.append({name.strip(): what.strip() for names, what in cells for name in names.split(",")})
        if text[: table.start()].endswith((".", ":")):
            return "\n\n"
        rest = text[table.end() :]
        return f" [these columns](#{answer})" + ("\n" if rest[:1].islower() else ".\n\n")

    return re.sub(r"\n\n\| column .*\n(?:\|.*(?:\n|\Z))+\n*", read, text), tables


def type_name(kind: Any) -> str:
    """The type in words: `list of {text: string, score: double}`."""
    match kind:
        case AnyType():
            return "any"
        case Array():
            return f"list of {type_name(kind.dtype)}"
        case Object():
            return "{" + ", ".join(f"{p.name}: {type_name(p.dtype)}" for p in kind.properties) + "}"
        case DataType():
            return kind.name
    raise TypeError(f"no name for {kind!r}")
