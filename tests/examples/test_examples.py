"""The examples run as they are: scripts of a page, and a notebook that tells the whole story."""

import json
import subprocess
from pathlib import Path

import pytest
from preloaded import Preloaded

from support import ROOT, environment

EXAMPLES = ROOT / "examples"
SAID = {
    "splice": ("5 words, cosine 0.96", "dog", "models:/m-"),
    "harsanyi": ("14 patterns", "bmi", "models:/m-"),
    "perturbation": ("toward", "models:/m-"),
    "milan": ("layer4:0", "PMI", "models:/m-"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store all examples share: making one takes seconds."""
    return tmp_path_factory.mktemp("examples")


def _run(folder: Path, python: str | Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = environment(MPLBACKEND="agg", MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false")
    done = subprocess.run([python, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == {*(f"{name}.py" for name in SAID), "tour.ipynb"}


@pytest.mark.parametrize("name", SAID)
def test_a_script_explains_and_draws(folder: Path, preloaded: Preloaded, name: str) -> None:
    script = EXAMPLES / f"{name}.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 40
    printed = _run(folder, preloaded.folder / "python", str(script)).stdout
    for words in SAID[name]:
        assert words in printed
    assert (folder / f"{name}.png").stat().st_size > 10_000


RUN = """\
import sys
import nbclient
import nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
nbformat.write(notebook, "tour.ipynb")
"""


def test_the_tour_is_told_to_its_end(folder: Path, preloaded: Preloaded) -> None:
    source = json.loads((EXAMPLES / "tour.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in source["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)  # stripped

    _run(folder, preloaded.folder / "python", "-c", RUN, str(EXAMPLES / "tour.ipynb"))
    done = json.loads((folder / "tour.ipynb").read_text(encoding="utf-8"))["cells"]
    shown = "".join(json.dumps(cell["outputs"]) for cell in done if cell["cell_type"] == "code")
    assert shown.count("image/png") == 4  # a figure of each method
    assert "text/html" in shown
    assert "champion" in shown
    assert "True" in shown
