"""The distributions that a logged model says it needs."""

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement


def installed_requirements(folder: Path, base: Iterable[str]) -> tuple[str, ...]:
    """Names from `requirements.txt` of a logged model and `base`, without MLflow, sorted.

    A line that pip reads and that names no distribution (an address, an option) is left out, as is a distribution that
    is not installed: the model has answered its example without it.
    """
    names = set(base)
    path = folder / "requirements.txt"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            names.add(Requirement(line.strip()).name)
        except InvalidRequirement:
            continue
    return tuple(sorted(name for name in names if name.lower() != "mlflow" and _is_installed(name)))


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True
