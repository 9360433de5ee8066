"""Every command of the README, in its order, in one folder: what a stranger would type must work."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT, environment

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
TESTS = 'pip install ".[test]" && pytest\n'
MAIN = "pip install . && mlflow run . --env-manager local\n"


class Folder:
    """The folder a user works in, and the server that a block may have left running."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.server: subprocess.Popen | None = None

    def run(self, language: str, block: str, **extra: str) -> subprocess.CompletedProcess[str]:
        command = ["python", "-c", block] if language == "python" else ["bash", "-euo", "pipefail", "-c", block]
        env = environment(CONCEPTRY_CACHE=str(self.path / "cache"), HF_HUB_OFFLINE="1", **extra)
        return subprocess.run(command, cwd=self.path, env=env, capture_output=True, text=True, timeout=600)

    def start(self, block: str) -> None:
        self.stop()
        env = environment(CONCEPTRY_CACHE=str(self.path / "cache"))
        log = (self.path / "server.log").open("w")
        self.server = subprocess.Popen(
            ["bash", "-c", block], cwd=self.path, env=env, stdout=log, stderr=log, start_new_session=True
        )
        log.close()

    def wait_for(self, address: str) -> str:
        for _ in range(360):
            assert self.server
            assert self.server.poll() is None, (self.path / "server.log").read_text()[-2000:]
            try:
                with urllib.request.urlopen(address, timeout=5) as answer:
                    return answer.read().decode()
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"{address} did not answer: {(self.path / 'server.log').read_text()[-2000:]}")

    def stop(self) -> None:
        if self.server and self.server.poll() is None:
            os.killpg(self.server.pid, signal.SIGTERM)
            self.server.wait(timeout=60)
        self.server = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Folder]:
    path = tmp_path_factory.mktemp("readme")
    for name in ("MLproject", "python_env.yaml"):
        shutil.copy(ROOT / name, path)
    folder = Folder(path)
    yield folder
    folder.stop()


def test_the_two_commands_come_first() -> None:
    assert [block for _, block in BLOCKS[:2]] == [MAIN, TESTS]


def title(block: tuple[str, str]) -> str:
    return re.sub(r"\W+", "-", block[1].strip().splitlines()[0])[:40]


@pytest.mark.parametrize("block", [block for block in BLOCKS if block[1] != TESTS], ids=title)
def test_block(folder: Folder, block: tuple[str, str]) -> None:
    language, text = block
    if text.startswith(("mlflow ui", "mlflow models serve")):
        port = re.search(r"--port (\d+)", text)
        assert port
        folder.start(text)
        page = folder.wait_for(f"http://127.0.0.1:{port[1]}/{'ping' if 'serve' in text else ''}")
        assert "MLflow" in page or "serve" in text
        return
    # The package is installed already: by this very test line.
    done = folder.run(language, text.removeprefix("pip install . && "))
    if "ViT-B-32@" in text and done.returncode:
        line = done.stderr.strip().splitlines()[-1]  # without a network: one sentence that says so
        assert line.startswith("conceptry: ")
        assert "cannot be downloaded" in line
        return
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    CHECKS.get(title(block), lambda folder, output: None)(folder, done.stdout)


def demo(folder: Folder, output: str) -> None:
    for name in ("emoji-splice", "wine-harsanyi"):
        assert output.count(f"registered models:/{name}/") == 5
        assert f"champion is now models:/{name}/" in output
    for picture in ("explanations.png", "wine-0.png", "wine-patterns-1.png", "wine-0.html"):
        assert (folder.path / "conceptry-demo" / picture).stat().st_size > 10_000
    again = folder.run("bash", "conceptry demo")
    assert again.stdout.count("already registered") == 10
    assert again.stdout.count("already\n") == 10
    assert again.stdout.count("champion stays") == 2
    served = re.search(r"^  (base64 .*)$", output, re.MULTILINE)
    assert served
    assert "curl" in served[1]


def curl(folder: Folder, output: str) -> None:
    (answer,) = json.loads(output)["predictions"]
    assert {"train", "tent", "gray", "striped"} <= {entry["concept"] for entry in answer["concepts"]}
    folder.stop()


def curl_wine(folder: Folder, output: str) -> None:
    (answer,) = json.loads(output)["predictions"]
    assert answer["target"] == "Barolo"
    assert answer["n_kept"] >= len(answer["patterns"]) > 0
    assert sum(entry["value"] for entry in answer["shapley"]) == pytest.approx(answer["v_full"] - answer["v_empty"])
    folder.stop()


def quadratic(folder: Folder, output: str) -> None:
    """The kept patterns of a quadratic model have two columns at most."""
    assert "agreement of the kept patterns" in output
    patterns = folder.run("bash", "conceptry summarise progression-harsanyi/1 --data csv:patients.csv --size 2 --json")
    names = [entry["concept"] for entry in json.loads(patterns.stdout)["concepts"] if entry["weight"] > 1e-6]
    assert names
    assert max(name.count(" AND ") for name in names) <= 1


def trained(folder: Folder, output: str) -> None:
    """A training of a minute on 24 objects beats chance by far.

    By chance: retrieval 1/200, an object 1/24, both objects of a scene among 6 of 39 words in 1 of 50, a colour 1/11.
    """
    scores = json.loads((folder.path / "my-encoder" / "provenance.json").read_text())["scores"]
    assert scores["retrieval_r_at_1"] > 0.7
    assert scores["object_accuracy"] > 0.6
    assert scores["both_objects_found"] > 0.3
    assert scores["colour_found"] > 0.8
    assert scores["mean_l0"] < 8


CHECKS = {
    title(("bash", MAIN)): demo,
    "base64-conceptry-demo-train-and-tent-png": curl,
    "curl-s-http-127-0-0-1-5002-invocations-H": curl_wine,
    "conceptry-register-harsanyi-name-progres": quadratic,
    "conceptry-train-encoder-small-output-my-": trained,
}


def test_the_checks_belong_to_blocks() -> None:
    assert set(CHECKS) <= {title(block) for block in BLOCKS}
