"""Every command of the manual, in its order, in one folder: what a stranger would type must work.

Those that do not need what the demo leaves behind are in `test_readme_alone.py`.
"""

import json
import re
from collections.abc import Iterator

import pytest
from preloaded import Preloaded

from conceptry.models.images import decode_image, image_bytes
from readme import ALONE, BLOCKS, PAGES, SHOWN, SITE, Block, Folder, new_folder
from support import ROOT

TESTS = 'pip install ".[test]" && pytest\n'
MAIN = "pip install . && mlflow run . --env-manager local\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, preloaded: Preloaded) -> Iterator[Folder]:
    folder = new_folder(tmp_path_factory.mktemp("readme"), preloaded)
    yield folder
    folder.stop()


def test_the_two_commands_come_first() -> None:
    assert [block.text for block in BLOCKS[:2]] == [MAIN, TESTS]


def test_no_block_is_left_out() -> None:
    fences = [line.strip() for page in PAGES.values() for line in page.splitlines() if line.strip().startswith("```")]
    assert len(SHOWN) == fences.count("```bash") + fences.count("```python")
    assert {block.text for block in SHOWN} == {block.text for block in BLOCKS}
    # Nothing that would be typed hides in a block of another language: those show files, answers and formulas.
    assert set(fences) <= {"```", "```bash", "```python", "```json", "```text"}
    assert set(ALONE) <= {block.page for block in BLOCKS}


def test_no_page_is_left_out() -> None:
    """Every page of the folder is in the navigation, which says in which order the pages are read."""
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")} <= set(SITE)


@pytest.mark.parametrize(
    "block", [b for b in BLOCKS if b.text != TESTS and b.page not in ALONE], ids=lambda block: block.title
)
def test_block(folder: Folder, block: Block) -> None:
    CHECKS.get(block.title, lambda folder, output: None)(folder, folder.run_block(block))


def demo(folder: Folder, output: str) -> None:
    versions = {
        "emoji-splice": 5,
        "wine-harsanyi": 5,
        "tumour-harsanyi": 2,
        "digits-harsanyi": 1,
        "digits-perturbation": 5,
        "scenes-milan": 5,
    }
    for name, count in versions.items():
        assert output.count(f"registered models:/{name}/") == count
        assert f"champion is now models:/{name}/" in output
    pictures = ("explanations.png", "wine-0.png", "wine-patterns-1.png", "wine-0.html", "tumour-0.png", "pixels-0.png")
    for picture in (*pictures, "units.png", "perturbations.png"):
        assert (folder.path / "conceptry-demo" / picture).stat().st_size > 10_000
    again = folder.run("bash", "conceptry demo milan harsanyi perturbation splice milan")
    assert again.stdout.count("already registered") == sum(versions.values())
    assert again.stdout.count("already\n") == sum(versions.values())
    assert again.stdout.count("champion stays") == len(versions)
    assert again.stdout.index("scenes-milan") < again.stdout.index("wine-harsanyi")
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


def curl_digits(folder: Folder, output: str) -> None:
    (answer,) = json.loads(output)["predictions"]
    assert answer["target"] == "3"
    assert answer["success"]
    assert decode_image(image_bytes(answer["image"])).size == (16, 16)
    folder.stop()


def curl_units(folder: Folder, output: str) -> None:
    (answer,) = json.loads(output)["predictions"]
    assert answer["active"]
    assert answer["description"]
    assert len(answer["alternatives"]) == 5
    folder.stop()


CHECKS = {
    BLOCKS[0].title: demo,
    "base64-conceptry-demo-train-and-tent-png": curl,
    "curl-s-http-127-0-0-1-5002-invocations-H": curl_wine,
    "curl-s-http-127-0-0-1-5003-invocations-H": curl_digits,
    "curl-s-http-127-0-0-1-5004-invocations-H": curl_units,
}


def test_the_checks_belong_to_blocks() -> None:
    assert set(CHECKS) <= {block.title for block in BLOCKS}
