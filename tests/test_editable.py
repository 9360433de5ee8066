"""An editable install resolves in editors: pyright finds `conceptry` in the working tree, without PYTHONPATH."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from support import ROOT, environment

SCRIPT = """\
import conceptry.registry
from conceptry.models.errors import InputError
reveal_type((InputError, conceptry.registry.find_version))
"""


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment that holds nothing but an editable install of this working tree."""
    folder = tmp_path_factory.mktemp("editable")
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
    python = folder / "bin" / "python"
    # Offline: what builds is borrowed from this environment, for the time of the installation.
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet")
    _run(
        *(sys.executable, "-m", "pip", "--python", str(python), "install", *options, "--editable", str(ROOT)),
        PYTHONPATH=sysconfig.get_path("purelib"),
    )
    return python


def _run(*command: str, **extra: str) -> subprocess.CompletedProcess[str]:
    env = environment() | {"PYTHONPATH": ""} | extra
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_pyright_resolves_the_working_tree(interpreter: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    report = _run(
        "pyright", "--project", str(tmp_path), "--pythonpath", str(interpreter), "--verbose", str(script)
    ).stdout
    assert "0 errors, 0 warnings" in report
    assert "type[InputError]" in report
    assert "(uri: str) -> Version" in report
    # The environment holds no other conceptry, and this is the one place that pyright looks in beside it.
    assert f"\n    {ROOT / 'src'}\n" in report


def test_python_imports_the_working_tree(interpreter: Path) -> None:
    code = "import conceptry.models.errors as errors; print(errors.__file__)"
    assert Path(_run(str(interpreter), "-c", code).stdout.strip()).resolve() == ROOT / "models" / "errors.py"
