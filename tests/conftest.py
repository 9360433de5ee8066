"""What many tests share: a tiny random encoder, a store of their own, and the command line as users run it."""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

# Workers share the cores: with more threads each, networks as small as these wait for one another. It is read when
# torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiled kernels of all workers and of what they start: made once by whoever comes first, gone with the one who asked.
if "PYTEST_XDIST_WORKER" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="conceptry-tests-")
    os.environ["CONCEPTRY_CACHE"] = _cache.name

import pytest
import torch
from PIL import Image, ImageDraw
from preloaded import VERSION, Preloaded

from support import WORDS, environment


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The commands of the manual first: they take longest, and those of one file are run by one worker."""
    items.sort(key=lambda item: ("test_readme.py", "test_readme_alone.py", item.path.name).index(item.path.name))


@pytest.fixture(scope="session")
def words_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of an untrained SqueezeNet of three classes: `torchvision:squeezenet1_1@` and this path."""
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "mine.pth"
    torch.save(squeezenet1_1(num_classes=3).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained open_clip model with the full token table, in the local-dir layout, with an image mean."""
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    directory = tmp_path_factory.mktemp("tiny-encoder")
    model_cfg = {
        "embed_dim": 64,
        "vision_cfg": {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64, "patch_size": None},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 1},
    }
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"size": 64}}
    (directory / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    state = CLIP(**model_cfg).state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, str(directory / "open_clip_model.safetensors"))
    save_file({"image_mean": torch.randn(64) * 0.05}, str(directory / "image_mean.safetensors"))
    return directory


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    image = Image.new("RGB", (64, 64), (30, 120, 60))
    ImageDraw.Draw(image).rectangle((10, 10, 40, 50), fill=(250, 200, 20))
    return image


@pytest.fixture(scope="session")
def store_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def store(store_directory: Path) -> Iterator[str]:
    """A fresh MLflow store for this process and its children, used by all tests that register tiny versions."""
    import mlflow

    uri = f"sqlite:///{store_directory / 'mlflow.db'}"
    before = os.getcwd()
    os.chdir(store_directory)  # new experiments keep their artifacts below the current folder
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    mlflow.set_tracking_uri(uri)
    yield uri
    os.chdir(before)


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preloaded]:
    """Commands for the front of PATH that start without importing libraries."""
    started = Preloaded(tmp_path_factory.mktemp("bin"), environment())
    yield started
    started.close()


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Preloaded]:
    """The same with what any version needs alone, for tests of what is imported."""
    started = Preloaded(tmp_path_factory.mktemp("bare"), environment(), VERSION)
    yield started
    started.close()


@pytest.fixture(scope="session")
def tiny_options(tiny_encoder: Path, words_file: Path) -> dict[str, str]:
    return {"encoder": f"open_clip:local-dir:{tiny_encoder}", "vocabulary": str(words_file)}


@pytest.fixture(scope="session")
def tiny_version(store: str, tiny_options: dict[str, str]):
    """A registered version of the tiny encoder."""
    from conceptry.registry import register

    return register("splice", tiny_options, name="tiny").version


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network over five columns, one of them categorical, in the folder of a classifier."""
    from conceptry.models.explained.classifiers.architectures import Shape, build_network
    from conceptry.models.explained.classifiers.classifier import Classifier, Description
    from conceptry.models.explained.protocol import Column

    numeric = [
        Column(name, "numeric", 1.0, 1.5, 2.0, -4.0, 6.0, mode=1.0) for name in ("age", "height", "weight", "dose")
    ]
    kind = Column("kind", "categorical", categories=("a", "b", "c"), mode="b", dtype="str")
    shape = Shape("mlp2", (7,), 3, 16)
    torch.manual_seed(0)
    description = Description(shape, "table", "logits", ("low", "mid", "high"), (*numeric, kind))
    directory = tmp_path_factory.mktemp("tiny-classifier")
    Classifier("classifier:tiny", description, build_network(shape), torch.device("cpu")).save(directory)
    return directory


@pytest.fixture(scope="session")
def tiny_rows() -> list[dict]:
    return [
        {"age": 3.0, "height": -1.0, "weight": 2.5, "dose": 0.0, "kind": "a"},
        {"age": 0.5, "height": 4.0, "weight": -2.0, "dose": 5.0, "kind": "c"},
        {"age": 1.5, "height": 2.0, "weight": 6.0, "dose": -3.0, "kind": "b"},
    ]


@pytest.fixture(scope="session")
def harsanyi_version(store: str, tiny_classifier: Path):
    """A registered version that explains the tiny classifier."""
    from conceptry.registry import register

    return register("harsanyi", {"model": f"classifier:{tiny_classifier}"}, name="tiny-harsanyi").version


@pytest.fixture(scope="session")
def perturbation_version(store: str):
    """A registered version over a small robust network of 8 x 8 digits."""
    from conceptry.registry import register

    return register("perturbation", {"model": "zoo:digits-robust", "epsilon": 12.0}, name="tiny-perturbation").version


@pytest.fixture(scope="session")
def colour_describer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a describer that names the colour under the masks, see `colours`."""
    from colours import save_describer

    return save_describer(tmp_path_factory.mktemp("describer"))


@pytest.fixture(scope="session")
def colour_exemplars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder, palette/squares, with the exemplars of units that respond to colours, see `colours`."""
    from colours import write_exemplars

    return write_exemplars(tmp_path_factory.mktemp("exemplars"))


@pytest.fixture(scope="session")
def milan_options(colour_describer: Path, colour_exemplars: Path, tiny_encoder: Path) -> dict[str, str]:
    return {
        "describer": f"describer:{colour_describer}",
        "exemplars": str(colour_exemplars),
        "clip_encoder": f"open_clip:local-dir:{tiny_encoder}",
    }


@pytest.fixture(scope="session")
def milan_version(store: str, milan_options: dict[str, str]):
    """A registered version that names the colours which units respond to."""
    from conceptry.registry import register

    return register("milan", milan_options, name="tiny-milan").version


@pytest.fixture
def command_line(store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Run the command line in this process, which saves the seconds that imports take; returns (code, out, err)."""
    from conceptry.evaluation.cli import app

    monkeypatch.setattr(app, "_quiet_libraries", lambda: None)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            app.main(list(arguments))
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def conceptry(store: str, store_directory: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed `conceptry` command in the test's store; returns the finished process."""

    def run(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["conceptry", *arguments],
            cwd=store_directory,
            env=environment(MLFLOW_TRACKING_URI=store, **extra),
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run
