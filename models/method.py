"""The contract of a method: what the registry, the harness and the command line need to know of it.

A method NAME is a folder `conceptry/models/NAME` with

| module | holds |
|---|---|
| `settings.py` | `OPTIONS`, a frozen dataclass made with `option`; `SUMMARY`, a sentence; `WORK`; imports no torch |
| `method.py` | `METHOD`, an instance of `Method` |
| `pyfunc.py` | a subclass of `conceptry.models.explainer.Explainer`, named by `METHOD.explainer` |
| `model.py` | the explainer object, whose `explain` returns a `conceptry.models.record.Record` |
| the rest | algorithm files, plain PyTorch, which never import MLflow |

and a harness in `conceptry.evaluation.NAME`. Adding its name to `METHODS` puts it into every command.
"""

import dataclasses
import importlib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conceptry.models.errors import InputError

Progress = Callable[[str, float], None]
"""Called with a word on the current step and the share done so far, 0 to 1."""

METHODS = ("splice", "harsanyi", "perturbation", "milan")


@dataclass(frozen=True)
class Package:
    """What a method says of the package folder that it has just written.

    params: hyperparameters by name, the columns of a comparison; tags: lineage (the explained model and its
    digest, the vocabulary); example: a request by column name, one list entry a row; requirements: names of the
    distributions that serving needs; pip pins are taken from the installed versions; notes: sentences on what the
    user should know of the version; contents: SHA-256 of what options name that may change behind its name, as a file
    or a checkpoint does, by option. See `contents_of`.
    """

    params: Mapping[str, str | int | float]
    tags: Mapping[str, str]
    example: Mapping[str, Sequence[Any]]
    requirements: Sequence[str]
    notes: Sequence[str] = ()
    contents: Mapping[str, str] = field(default_factory=dict)


def contents_of(named: Mapping[str, tuple[object, str | None]], shipped: Sequence[str] = ()) -> dict[str, str]:
    """SHA-256 by option, from what names each option and the SHA-256 of its content; None of either leaves it out.

    What ships with conceptry is left out, as it changes with the code alone: `zoo:NAME`, and names in `shipped`.
    """
    return {
        option: digest
        for option, (name, digest) in named.items()
        if name is not None and digest is not None and not str(name).startswith("zoo:") and str(name) not in shipped
    }


@dataclass(frozen=True)
class Method:
    """A concept explainer that can be registered.

    options: `OPTIONS` of its settings, whose fields are the options of `conceptry register NAME`;
    build: writes a package folder from options; read: the explainer object of a package folder that `build` or the
    object's own `to_package` wrote; explainer: "module:Class" of the pyfunc.
    """

    name: str
    options: type
    build: Callable[[Any, Path], Package]
    read: Callable[[Path, Any], Any]
    explainer: str

    def explainer_class(self) -> type:
        """The pyfunc class (imports MLflow)."""
        module, _, name = self.explainer.partition(":")
        return getattr(importlib.import_module(module), name)

    def entry_point(self, manifest_sha256: str) -> str:
        """Source of the models-from-code file that MLflow runs when it loads a version."""
        module, _, name = self.explainer.partition(":")
        return (
            f"from mlflow.models import set_model\n\nfrom {module} import {name}\n\n"
            f'set_model({name}("{manifest_sha256}"))\n'
        )


@dataclass(frozen=True)
class Work:
    """How much a server does for one request: `WORK` in the settings of a method.

    most: unless a version is registered with another `max_work`; unit: what is counted, in the plural; way_out: what
    would make a request cheaper.
    """

    most: int
    unit: str
    way_out: str


def load_method(name: str) -> Method:
    """The method called `name`; raises InputError listing the methods there are."""
    if name not in METHODS:
        raise InputError(f"unknown method {name!r}; expected one of {', '.join(METHODS)}")
    return importlib.import_module(f"conceptry.models.{name}.method").METHOD


def load_options(name: str) -> tuple[type, str]:
    """The options of a method, and what it does in one sentence. Imports neither torch nor MLflow."""
    settings = importlib.import_module(f"conceptry.models.{name}.settings")
    return settings.OPTIONS, settings.SUMMARY


def load_work(name: str) -> Work:
    """How much a server of a method does for one request. Imports neither torch nor MLflow."""
    return importlib.import_module(f"conceptry.models.{name}.settings").WORK


def option(default: Any, help: str, choices: Sequence[str] = ()) -> Any:
    """A field of an options dataclass, with its sentence for `--help`."""
    return field(default=default, metadata={"help": help, "choices": tuple(choices)})


def whole_number(text: str) -> int | None:
    """The number that a text of up to 18 digits 0 to 9 stands for; None for any other text.

    `str.isdigit` takes characters that `int` refuses, such as a superscript, and `int` refuses thousands of digits.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def plain_number(value: Any) -> Any:
    """A number of NumPy as Python's own, a tuple of them likewise; anything else as it is.

    NumPy's are often no int or float to those who check them, nor to JSON.
    """
    if isinstance(value, tuple):
        return tuple(map(plain_number, value))
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0 else value


def keep_plain_numbers(settings: Any) -> None:
    """Have all fields of a frozen dataclass hold plain numbers; for its `__post_init__`."""
    for each in dataclasses.fields(settings):
        object.__setattr__(settings, each.name, plain_number(getattr(settings, each.name)))


def option_type(options: type, name: str) -> type:
    """The plain type of an option: of `int | None`, int."""
    annotation = typing.get_type_hints(options)[name]
    if isinstance(annotation, types.UnionType):
        (annotation,) = [kind for kind in typing.get_args(annotation) if kind is not types.NoneType]
    return annotation


def make_options(method: Method, values: Mapping[str, Any]) -> Any:
    """Options from a mapping. Raises InputError for unknown keys, wrong types and values outside the choices."""
    fields = {f.name: f for f in dataclasses.fields(method.options)}
    if unknown := sorted(values.keys() - fields.keys()):
        raise InputError(f"unknown option {unknown[0]!r} of {method.name}; expected one of {', '.join(fields)}")
    check_options(method.options, values)
    return method.options(**values)


def check_options(options: type, values: Mapping[str, Any]) -> None:
    """Raise InputError for a value of the wrong type, and for one outside the choices."""
    fields = {f.name: f for f in dataclasses.fields(options)}
    for name, given in values.items():
        value = plain_number(given)
        kind = option_type(options, name)
        accepted = (int, float) if kind is float else kind
        left_out = value is None and fields[name].default is None
        if not left_out and (not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool)):
            raise InputError(f"{name} must be of type {kind.__name__}, got {value!r}")
        choices = fields[name].metadata.get("choices")
        if choices and value not in choices:
            raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
