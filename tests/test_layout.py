"""The rules of the house that a machine can check."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = ("models", "registry", "evaluation")
COMPILERS = {"compiled", "helper"}  # of models/jit.py


def _compilers_named(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Each use of a decorator of models/jit.py, or of numba's own, by name and line; imports are none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in COMPILERS | {"njit", "jit"}:
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("jit.compiled", "jit.helper", "numba.njit"):
            yield node.attr, node.lineno


def _violations(path: Path, source: str) -> list[str]:
    tree = ast.parse(source)
    if path.name != "_kernels.py":
        return [f"{path}:{line}: {name} outside a _kernels.py" for name, line in _compilers_named(tree)]
    ordinary = [
        node
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
        and not any(isinstance(mark, ast.Name) and mark.id in COMPILERS for mark in node.decorator_list)
    ]
    return [f"{path}:{node.lineno}: {node.name} is not compiled" for node in ordinary]


def test_compiled_functions_live_in_kernels() -> None:
    """numba's cache goes by the text of a file: an edit of ordinary code beside a kernel would compile it anew."""
    found: list[str] = []
    kernels = 0
    for path in sorted(file for floor in FLOORS for file in (ROOT / floor).rglob("*.py")):
        if path == ROOT / "models" / "jit.py":
            continue
        kernels += path.name == "_kernels.py"
        found += _violations(path.relative_to(ROOT), path.read_text(encoding="utf-8"))
    assert kernels >= 5
    assert not found


@pytest.mark.parametrize(
    ("name", "source", "sentence"),
    [
        ("masks.py", "@compiled\ndef fill(a):\n    pass\n", "masks.py:1: compiled outside a _kernels.py"),
        ("masks.py", "fill = numba.njit(len)\n", "masks.py:1: njit outside a _kernels.py"),
        ("masks.py", "from conceptry.models.jit import over_rows\n", None),
        ("_kernels.py", "@compiled\ndef fill(a):\n    pass\n", None),
        (
            "_kernels.py",
            "@helper\ndef one(a):\n    pass\n\n\ndef two(a):\n    pass\n",
            "_kernels.py:6: two is not compiled",
        ),
    ],
)
def test_the_check_of_kernels(name: str, source: str, sentence: str | None) -> None:
    assert _violations(Path(name), source) == ([] if sentence is None else [sentence])
