"""The commands of the manual that need nothing of the demo: another worker runs them while the others are run."""

import json
from collections.abc import Iterator

import pandas as pd
import pytest
from preloaded import Preloaded

from readme import ALONE, BLOCKS, Block, Folder, new_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Folder]:
    folder = new_folder(tmp_path_factory.mktemp("readme-alone"), preloaded)
    yield folder
    folder.stop()


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.page in ALONE], ids=lambda block: block.title)
def test_block(folder: Folder, block: Block) -> None:
    CHECKS.get(block.title, lambda folder, output: None)(folder, folder.run_block(block))


def quadratic(folder: Folder, output: str) -> None:
    """The kept patterns of a quadratic model have two columns at most."""
    assert "agreement of the kept patterns" in output
    first, _ = sorted(folder.path.glob("mlruns/**/evaluation/*/patterns.json"), key=lambda file: file.stat().st_mtime)
    patterns = pd.DataFrame(**json.loads(first.read_text(encoding="utf-8")))
    names = patterns["players"][patterns["effect"].abs() > 1e-6]
    assert len(names)
    assert names.str.count(" & ").max() <= 1


def trained(folder: Folder, output: str) -> None:
    """A training of half a minute on 16 objects beats chance by far.

    By chance: retrieval 1/200, an object 1/16, both objects of a scene among 6 of 31 words in 1 of 31, a colour 1/11.
    """
    scores = json.loads((folder.path / "my-encoder" / "provenance.json").read_text())["scores"]
    assert scores["retrieval_r_at_1"] > 0.7
    assert scores["object_accuracy"] > 0.6
    assert scores["both_objects_found"] > 0.3
    assert scores["colour_found"] > 0.8
    assert scores["mean_l0"] < 8


CHECKS = {
    "conceptry-register-harsanyi-name-progres": quadratic,
    "conceptry-train-encoder-small-output-my-": trained,
}


def test_the_checks_belong_to_blocks() -> None:
    assert set(CHECKS) <= {block.title for block in BLOCKS}
