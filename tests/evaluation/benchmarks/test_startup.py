"""What a version imports when it is loaded and asked, and how starts are timed."""

import json
import subprocess
from pathlib import Path

import pytest
from mlflow.artifacts import download_artifacts
from preloaded import Preloaded

from conceptry.evaluation.benchmarks import startup
from conceptry.models.encoders.load import load_encoder, save_encoder
from conceptry.models.encoders.tokens import END, START
from conceptry.models.errors import ConceptryError
from support import environment

UNNEEDED = {"matplotlib", "networkx", "onnx", "onnxruntime", "open_clip", "skimage", "sklearn", "timm", "torchvision"}
UNNEEDED |= {"conceptry.evaluation", "conceptry.registry"}
ANSWER = """
import sys, json, mlflow.pyfunc
model = mlflow.pyfunc.load_model(sys.argv[1], suppress_warnings=True)
model.predict(model.input_example)
print(json.dumps(sorted(sys.modules)))
"""
ENCODE = """
import sys, json, torch
from pathlib import Path
from PIL import Image
from conceptry.models.encoders.load import read_encoder
encoder = read_encoder(Path(sys.argv[1]), torch.device("cpu"))
assert encoder.encode_image(encoder.preprocess(Image.new("RGB", (80, 50), "red"))[None]).shape == (1, 64)
print(json.dumps(sorted(sys.modules)))
"""


def imported(preloaded: Preloaded, program: str, folder: Path) -> set[str]:
    command = [preloaded.folder / "python", "-c", program, str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("version", ["harsanyi_version", "perturbation_version"])
def test_a_version_imports_what_it_needs_and_no_more(version, request, preloaded, tmp_path: Path) -> None:
    folder = Path(download_artifacts(request.getfixturevalue(version).uri, dst_path=str(tmp_path)))
    assert not imported(preloaded, ANSWER, folder) & UNNEEDED


def test_an_onnx_encoder_embeds_images_without_open_clip(tiny_encoder: Path, preloaded, tmp_path: Path) -> None:
    encoder = load_encoder(f"open_clip:local-dir:{tiny_encoder}", "cpu")
    save_encoder(encoder, tmp_path / "encoder", "onnx")
    (tmp_path / "encoder" / "tokens.json").write_text(json.dumps({"bpe_ids": [START, END], "context_length": 16}))
    assert not imported(preloaded, ENCODE, tmp_path / "encoder") & UNNEEDED - {"onnxruntime"}


def test_starts_are_timed_in_turn(tmp_path: Path) -> None:
    said: list[str] = []
    folders = {startup.BARE: None, startup.NOTHING: startup.save_nothing(tmp_path / "nothing")}
    seconds = startup.start_seconds(folders, 1, said.append)
    assert [line.split(": ")[0] for line in said] == ["filling caches"] * 2 + ["round 1 of 1"] * 2
    assert all(wall > 0 < cpu for found in seconds.values() for wall, cpu in found)
    assert [len(found) for found in seconds.values()] == [1, 1]
    with pytest.raises(ConceptryError, match=r"nowhere: does not start: .*nowhere"):
        startup.start_seconds({"gone": tmp_path / "nowhere"}, 1, said.append)
