"""What ships: every subpackage and every data file, and nothing that would shadow a user's own modules."""

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from click import Group

from support import ROOT, environment

LIMIT_MB = 30


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    target = tmp_path_factory.mktemp("wheel")
    source = tmp_path_factory.mktemp("source")
    tracked = [line for line in files_of_the_project() if (ROOT / line).is_file()]
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    shutil.copytree(ROOT / "src", source / "src", symlinks=True, ignore=shutil.ignore_patterns("*.egg-info"))
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(target), str(source)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (path,) = target.glob("*.whl")
    assert path.stat().st_size < LIMIT_MB * 2**20
    return zipfile.ZipFile(path)


def files_of_the_project() -> list[str]:
    listing = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*")
        if path.is_file()
        and not {"__pycache__", ".git", ".venv", "build", "mlruns"} & set(path.relative_to(ROOT).parts)
    ]
    return [name for name in listing if name.split("/")[0] in SHIPPED or "/" not in name]


SHIPPED = ("models", "registry", "evaluation")
SKIPPED = {"__pycache__", ".git", ".venv", "build", "mlruns"}


def test_the_wheel_holds_every_file_of_the_three_packages(wheel: zipfile.ZipFile) -> None:
    expected = {
        f"conceptry/{name}"
        for name in files_of_the_project()
        if name.split("/")[0] in SHIPPED and "/" in name and not name.endswith(".pyc")
    } | {"conceptry/__init__.py", "conceptry/__main__.py", "conceptry/_former.py", "conceptry/batch.py"}
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_no_bare_top_level_package(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"conceptry"}


def test_licences_and_attribution_ship(wheel: zipfile.ZipFile) -> None:
    names = " ".join(wheel.namelist())
    assert "licenses/LICENSE" in names
    assert "ATTRIBUTION.txt" in names


def test_the_project_names_no_folder_beside_it() -> None:
    """A stranger's clone works alone: nothing refers to a folder outside, nor to an absolute path of a machine."""
    outside = re.compile(r"\.\./|[\"'\s(]/(?:root|home|opt|work|mnt)/")
    for path in ROOT.rglob("*"):
        relative = path.relative_to(ROOT)
        if path.suffix in (".py", ".md", ".toml", ".yaml") and not {".git", ".venv", "build"} & set(relative.parts):
            if relative == Path("tests/test_packaging.py"):
                continue
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".md" or relative.parts[0] == "docs":
                text = _without_links_inside(text, path.parent)
            assert not outside.search(text), relative


def _without_links_inside(text: str, folder: Path) -> str:
    """A page without its links to other pages of the project; those may be generated, so they need not exist."""

    def kept(link: re.Match[str]) -> str:
        return "" if (folder / link[1]).resolve().is_relative_to(ROOT) else link[0]

    return re.sub(r"\]\(([^)#:\s]+)[^)]*\)", kept, text)


def test_dependencies_point_one_way() -> None:
    """evaluation -> registry -> models; a method never imports another; algorithm files never import MLflow."""
    imports = re.compile(r"^\s*(?:from|import) ([\w.]+)", re.MULTILINE)
    from conceptry.models.method import METHODS

    for path in (ROOT / "models").rglob("*.py"):
        found = set(imports.findall(path.read_text(encoding="utf-8")))
        assert not any(name.startswith(("conceptry.registry", "conceptry.evaluation")) for name in found), path
        # loaders import it inside functions
        if path.name not in ("pyfunc.py", "explainer.py") and path.parent.name != "loaders":
            assert not any(name.split(".")[0] == "mlflow" for name in found), path
        own = path.relative_to(ROOT / "models").parts[0]
        others = [m for m in METHODS if own in METHODS and m != own]
        assert not any(name.startswith(f"conceptry.models.{other}") for name in found for other in others), path
    for path in (ROOT / "registry").rglob("*.py"):
        assert "conceptry.evaluation" not in path.read_text(encoding="utf-8"), path


def test_every_command_is_an_entry_point_of_one_line() -> None:
    from conceptry.evaluation.cli.app import cli

    assert isinstance(cli, Group)
    entry_points = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]
    assert set(entry_points) == (set(cli.commands) - {"demo", "serve", "ui"}) | {"main"}
    for name, entry in entry_points.items():
        command = entry["command"]
        assert "\n" not in command
        assert command.split()[:2] == ["conceptry", "demo" if name == "main" else name]
        assert not any(isinstance(value, dict) and "default" in value for value in entry.get("parameters", {}).values())


@pytest.mark.parametrize("module", ["splice.package", "harsanyi.package", "perturbation.model", "milan.package"])
def test_the_requirements_a_version_pins_are_dependencies(module: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[><=;\s\[]", line)[0].lower() for line in project["dependencies"]}
    requirements = importlib.import_module(f"conceptry.models.{module}").REQUIREMENTS
    assert "torch" in requirements
    assert {name.lower() for name in requirements} <= declared


def test_the_code_of_a_version_comes_before_the_installed_package(tmp_path: Path) -> None:
    """A version carries `conceptry/models` alone, and MLflow puts its folder before all others on the path."""
    (tmp_path / "conceptry" / "models").mkdir(parents=True)
    (tmp_path / "conceptry" / "models" / "__init__.py").write_text("OWN = True\n", encoding="utf-8")
    code = (
        "import sys; from importlib.util import find_spec; sys.path.insert(0, sys.argv[1]); import conceptry.models;"
        "assert conceptry.models.OWN; print(find_spec('conceptry.registry').origin)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("registry/__init__.py")
