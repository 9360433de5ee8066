"""The rules of the layout (CONTRIBUTING.md), so that the next file lands where its reader looks for it."""

import ast
import importlib.util
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from conceptry.models.method import METHODS
from support import ROOT

MOST_MODULES, MOST_LINES = 12, 350
FLOORS = [
    ("conceptry.models.", "conceptry._former."),
    ("conceptry.models.encoders.", "conceptry.models.explained."),
    ("conceptry.models.zoo.",),
    tuple(f"conceptry.models.{method}." for method in METHODS),
    ("conceptry.models.training.",),
    ("conceptry.registry.",),
    ("conceptry.evaluation.",),
]
COMPILERS = {"compiled", "helper"}  # of models/jit.py
ROLES = {
    "models": {"settings", "method", "pyfunc", "model", "original"},
    "evaluation": {"data", "client", "harness", "metrics", "presenter", "plots", "summary", "demo"},
}
MODULES = [path for top in ("models", "registry", "evaluation") for path in sorted((ROOT / top).rglob("*.py"))]


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("conceptry", *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("conceptry"):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("conceptry"))


def floor_of(module: str) -> int:
    return max(floor for floor, prefixes in enumerate(FLOORS) if f"{module}.".startswith(prefixes))


def test_a_folder_holds_at_most_twelve_modules() -> None:
    counts: dict[Path, int] = {}
    for path in MODULES:
        counts[path.parent] = counts.get(path.parent, 0) + (path.name != "__init__.py")
    assert {str(folder.relative_to(ROOT)): n for folder, n in counts.items() if n > MOST_MODULES} == {}


def test_a_module_is_read_in_one_sitting() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("top", ROLES)
def test_the_same_role_has_the_same_name_in_all_methods(top: str, method: str) -> None:
    assert ROLES[top] <= {path.stem for path in (ROOT / top / method).iterdir()}


def test_no_module_imports_from_a_floor_above() -> None:
    upward = [
        f"{name_of(path)} -> {module}"
        for path in MODULES
        for module in imports(path)
        if floor_of(module) > floor_of(name_of(path))
    ]
    assert upward == []


def test_a_face_exports_no_name_of_a_module() -> None:
    for path in MODULES:
        if path.name == "__init__.py":
            tree = ast.parse(path.read_text("utf-8"))
            exported = {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
            assert exported & {other.stem for other in path.parent.iterdir()} == set(), path


def test_only_the_registry_spells_its_tags() -> None:
    for path in MODULES:
        if path.parent == ROOT / "registry":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if text.startswith("conceptry.") and " " not in text and "\n" not in text:
                module = text.partition(":")[0].partition("(")[0].rstrip(".").removesuffix(".run")
                assert importlib.util.find_spec(module), f"{path}: {text}"


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
    for path in MODULES:
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


def test_identifiers_say_image() -> None:
    """One word for one thing; sentences for people may say picture."""
    former = {("evaluation/splice/data.py", "pictures")}
    found = {
        (str(path.relative_to(ROOT)), token.string)
        for path in MODULES
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
        if token.type == tokenize.NAME and "picture" in token.string.lower()
    }
    assert found == former
