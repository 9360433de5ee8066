"""The reference of the Python API: for each public module its docstring, and every name that it exports."""

import importlib
import inspect

FACES = (
    "conceptry",
    "conceptry.models.splice",
    "conceptry.models.harsanyi",
    "conceptry.models.perturbation",
    "conceptry.models.milan",
    "conceptry.models.explained",
    "conceptry.registry",
    "conceptry.batch",
)


def api_page(module: str) -> str:
    """The whole page, in Markdown: classes first, then functions, then constants."""
    face = importlib.import_module(module)
    groups: dict[str, list[str]] = {"Classes": [], "Functions": [], "Constants": []}
    for name in face.__all__:
        value = getattr(face, name)
        kind = "Classes" if inspect.isclass(value) else "Functions" if callable(value) else "Constants"
        groups[kind].append(name)
    lines = [f"# `{module}`", "", inspect.getdoc(face) or ""]
    for kind, names in groups.items():
        if names:
            lines += ["", f"## {kind}"]
            lines += [f"\n::: {module}.{name}" for name in names]
    return "\n".join(lines) + "\n"
