"""What a version imports when it is loaded and asked, and how starts are timed."""

from pathlib import Path

import pytest
from mlflow.artifacts import download_artifacts
from preloaded import UNNEEDED

from conceptry.evaluation.benchmarks import startup
from conceptry.models.errors import ConceptryError

ANSWER = """
import sys, mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1], suppress_warnings=True)
model.predict(model.input_example)
"""


@pytest.mark.parametrize("version", ["harsanyi_version", "perturbation_version"])
def test_a_version_imports_what_it_needs_and_no_more(version, request, bare, tmp_path: Path) -> None:
    folder = Path(download_artifacts(request.getfixturevalue(version).uri, dst_path=str(tmp_path)))
    assert not bare.imported(ANSWER, str(folder)) & UNNEEDED


def test_starts_are_timed_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "_START", "import sys, os; [os.listdir(folder) for folder in sys.argv[1:]]")  # at once
    said: list[str] = []
    folders = {startup.BARE: None, startup.NOTHING: startup.save_nothing(tmp_path / "nothing")}
    seconds = startup.start_seconds(folders, 1, said.append)
    assert [line.split(": ")[0] for line in said] == ["filling caches"] * 2 + ["round 1 of 1"] * 2
    assert all(wall > 0 < cpu for found in seconds.values() for wall, cpu in found)
    assert [len(found) for found in seconds.values()] == [1, 1]
    with pytest.raises(ConceptryError, match=r"nowhere: does not start: .*nowhere"):
        startup.start_seconds({"gone": tmp_path / "nowhere"}, 1, said.append)
