"""Versions: registered once, complete or not at all, self-contained, and refused when a byte changed."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from PIL import Image

from conceptry.models.errors import InputError, IntegrityError
from conceptry.models.images import png_bytes
from conceptry.models.manifest import sha256_file
from conceptry.models.method import load_method, make_options
from conceptry.registry import find_version, list_versions, load, register, verify
from conceptry.registry.packaging import pinned, stage_package
from conceptry.registry.versions import BrokenVersionWarning, CodeWarning
from support import ROOT, WORDS, environment

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture
def request_frame(picture: Image.Image) -> pd.DataFrame:
    return pd.DataFrame({"image": [png_bytes(picture)]})


def test_a_version_says_what_it_consists_of(tiny_version, tiny_options) -> None:
    assert tiny_version.uri == "models:/tiny/1"
    assert tiny_version.params["encoder"] == tiny_options["encoder"]
    assert tiny_version.params["vocabulary_size"] == str(len(WORDS))
    assert {"vocabulary.txt", "encoder/open_clip_model.safetensors"} <= tiny_version.recorded.files.keys()
    client = MlflowClient()
    assert client.get_run(tiny_version.run_id).info.status == "FINISHED"
    assert client.get_logged_model(tiny_version.model_id).source_run_id == tiny_version.run_id
    requirements = (fetched(tiny_version) / "requirements.txt").read_text().split()
    assert all("==" in line and "+" not in line for line in requirements)
    assert not any("conceptry" in line for line in requirements)


def fetched(version) -> Path:
    target = Path("fetched") / version.fingerprint[:8]
    return Path(download_artifacts(version.uri, dst_path=str(target)))


@pytest.mark.parametrize("installed", ["onnxruntime-gpu", "onnxruntime"])
def test_a_version_requires_the_onnxruntime_that_is_installed(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    from importlib import metadata

    versions = {installed: "1.31.1", "mlflow": "3.17.2", "torch": "2.13.0+cpu"}

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    assert pinned(["onnxruntime", "torch"]) == ["mlflow==3.17.2", f"{installed}==1.31.1", "torch==2.13.0"]


def test_a_version_carries_all_code_but_that_of_training(tiny_version) -> None:
    code = fetched(tiny_version) / "code" / "conceptry" / "models"
    carried = {path.relative_to(code).as_posix() for path in code.rglob("*.py")}
    source = ROOT / "models"
    assert carried == {
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if path.relative_to(source).parts[0] != "training"
    }
    assert (source / "training").is_dir()


def test_no_pickle_in_a_version(tiny_version) -> None:
    suffixes = {path.suffix for path in fetched(tiny_version).rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".txt", ".py", ".yaml", ".yml", "", ".md"}


def test_the_same_options_are_not_registered_twice(tiny_version, tiny_options) -> None:
    again = register("splice", tiny_options, name="tiny")
    assert not again.created
    assert again.version.version == tiny_version.version
    other = register("splice", tiny_options | {"l1_penalty": 0.31}, name="tiny")
    assert other.created
    assert other.version.fingerprint != tiny_version.fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l1_penalty": -1.0}, "l1_penalty must be a finite number above 0, got -1.0"),
        ({"l1_penalty": "high"}, "l1_penalty must be of type float, got 'high'"),
        ({"penalty": 0.1}, "unknown option 'penalty' of splice; expected one of encoder"),
        ({"runtime": "tvm"}, "runtime must be one of torch, onnx, got 'tvm'"),
        ({"vocabulary": "no-such"}, "'no-such' is neither a file nor one of"),
        ({"encoder": "open_clip:ViT-B-33@openai"}, "no architecture 'ViT-B-33'; near names: ViT-B-32"),
        ({"encoder": "open_clip:RN50"}, "needs @TAG or @CHECKPOINT"),
        ({"encoder": "nonsense"}, "unknown encoder 'nonsense'; expected one of zoo:NAME"),
        ({"image_mean": "/no/such/mean.pt"}, "is neither a folder nor a file"),
    ],
)
def test_bad_options_store_nothing(tiny_options, options, message: str) -> None:
    before = stored()
    with pytest.raises(InputError, match=message):
        register("splice", tiny_options | options, name="tiny-bad")
    assert stored() == before


def stored() -> tuple[int, int]:
    client = MlflowClient()
    experiments = [e.experiment_id for e in client.search_experiments()]
    return len(client.search_runs(experiments)), len(client.search_model_versions())


def test_bad_names_and_methods() -> None:
    with pytest.raises(InputError, match="unknown method 'splcie'; expected one of splice"):
        register("splcie")
    with pytest.raises(InputError, match="a model name is made of letters"):
        register("splice", name="a/b")


def test_versions_are_found_by_number_and_alias(tiny_version) -> None:
    assert find_version("tiny/1") == find_version("models:/tiny/1")
    for uri, message in (
        ("tiny", "expected models:/NAME/NUMBER"),
        ("models:/tiny/99", "no such version; versions: 1"),
        ("tiny@nobody", "no such version"),
        ("absent/1", "no registered model 'absent'; there is .*tiny"),
    ):
        with pytest.raises(InputError, match=message):
            find_version(uri)


def test_versions_of_other_makers_are_left_out(tiny_version) -> None:
    client = MlflowClient()
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "somewhere", run_id=tiny_version.run_id)
    assert "foreign" not in {version.name for version in list_versions()}
    with pytest.raises(InputError, match="was not registered by conceptry"):
        find_version("foreign/1")


def test_a_changed_byte_is_named_when_the_version_is_loaded(tiny_options, request_frame) -> None:
    version = register("splice", tiny_options, name="tampered").version
    assert load(version.uri).predict(request_frame)["l0"][0] >= 0
    location = MlflowClient().get_logged_model(version.model_id).artifact_location.removeprefix("file://")
    for name in ("vocabulary.txt", "config.json", "splice.safetensors", "encoder/open_clip_model.safetensors"):
        path = Path(location) / "artifacts" / "package" / name
        good = path.read_bytes()
        path.write_bytes(good[:-2] + bytes([good[-2] ^ 1]) + good[-1:])
        with pytest.raises(IntegrityError, match=f"^{name}: does not have the SHA-256"):
            load(version.uri)
        path.write_bytes(good)
    assert load(version.uri)


SERVE_ELSEWHERE = """
import sys, json, importlib.util, mlflow, pandas as pd
assert importlib.util.find_spec("conceptry") is None, "conceptry must not be installed here"
model = mlflow.pyfunc.load_model(sys.argv[1])
import conceptry.models.splice
assert conceptry.models.splice.__file__.startswith(sys.argv[1]), conceptry.models.splice.__file__
print(model.predict(pd.DataFrame({"image": [open(sys.argv[2], "rb").read()]})).to_json(orient="records"))
"""


def test_a_version_loads_in_another_folder_without_conceptry(tiny_version, request_frame, tmp_path: Path) -> None:
    """A copy of the artifact, another working folder, and an interpreter that sees the dependencies alone."""
    copy = shutil.copytree(fetched(tiny_version), tmp_path / "copy")
    (tmp_path / "picture.png").write_bytes(request_frame["image"][0])
    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(mlflow.__file__).parent.parent.iterdir():
        if "conceptry" not in entry.name:
            (site / entry.name).symlink_to(entry)
    done = subprocess.run(
        [sys.executable, "-S", "-c", SERVE_ELSEWHERE, str(copy), str(tmp_path / "picture.png")],
        env=environment(PYTHONPATH=str(site), MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (answer,) = json.loads(done.stdout)
    here = load(tiny_version.uri).predict(request_frame).to_dict("records")[0]
    assert answer["l0"] == here["l0"]
    assert [c["concept"] for c in answer["concepts"]] == [c["concept"] for c in here["concepts"]]


def test_two_registrations_at_once_on_a_fresh_store_give_one_version(tiny_options, preloaded, tmp_path: Path) -> None:
    code = (
        "import sys, json; from conceptry.registry import register;"
        "print(register('splice', json.loads(sys.argv[1]), name='twice').version.uri)"
    )
    uri = f"sqlite:///{tmp_path / 'fresh.db'}"
    children = [
        subprocess.Popen(
            [preloaded.folder / "python", "-c", code, json.dumps(tiny_options)],
            env=environment(MLFLOW_TRACKING_URI=uri),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    results = [child.communicate(timeout=300) for child in children]
    assert [out.strip() for out, _ in results] == ["models:/twice/1"] * 2, results
    assert len(MlflowClient(uri, uri).search_model_versions("name='twice'")) == 1


def test_a_registration_leaves_the_callers_run_alone(tiny_options) -> None:
    mlflow.set_experiment("mine")
    with mlflow.start_run() as active:
        version = register("splice", tiny_options | {"l1_penalty": 0.41}, name="nested").version
        current = mlflow.active_run()
        assert current
        assert current.info.run_id == active.info.run_id != version.run_id
    assert MlflowClient().get_run(active.info.run_id).data.params == {}
    runs = MlflowClient().search_runs([MlflowClient().get_run(version.run_id).info.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_version_killed_before_it_exists_is_not_listed(tiny_options, preloaded) -> None:
    """End the process, without any cleaning up, between the logged model and the version."""
    code = (
        "import sys, json, os; from conceptry.registry import register as r;"
        "m = sys.modules['conceptry.registry.registration'];"
        "m.mlflow.register_model = lambda *a, **k: os._exit(9);"
        "r('splice', json.loads(sys.argv[1]), name='unborn')"
    )
    done = subprocess.run(
        [preloaded.folder / "python", "-c", code, json.dumps(tiny_options)],
        env=environment(MLFLOW_TRACKING_URI=mlflow.get_tracking_uri()),
        stderr=subprocess.DEVNULL,
    )
    assert done.returncode == 9
    assert list_versions("unborn") == []
    with pytest.raises(InputError, match="no registered model 'unborn'"):
        find_version("unborn/1")
    assert register("splice", tiny_options, name="unborn").created


def test_a_copied_version_is_the_same_model(tiny_version) -> None:
    copy = MlflowClient().copy_model_version(tiny_version.uri, "copied")
    found = find_version(f"copied/{copy.version}")
    assert found.model_id == tiny_version.model_id
    assert found.method == "splice"


def test_load_warns_where_the_version_carries_other_code(tiny_options) -> None:
    version = register("splice", tiny_options, name="older").version
    as_tagged_before(version, code_sha256="0" * 64)
    with pytest.warns(CodeWarning, match="models:/older/1 was registered with other code"):
        load(version.uri)
    found = find_version("older/1")
    assert (found.fingerprint, found.lineage) == (version.fingerprint, version.lineage)
    assert found.recorded == replace(version.recorded, code_sha256="0" * 64)
    assert verify(found) == verify(version)
    assert not register("splice", tiny_options, name="older").created


def as_tagged_before(version, code_sha256: str) -> None:
    """Give a version the tags that it had before its digests were in a file."""
    client, recorded = MlflowClient(), version.recorded
    tags = {f"sha256.{file}": digest for file, digest in recorded.files.items()} | dict(recorded.lineage)
    tags |= {"fingerprint": recorded.fingerprint, "manifest_sha256": recorded.manifest_sha256}
    tags |= {"code_sha256": code_sha256, "artifact_sha256": json.dumps(recorded.artifact)}
    for tag in ("recorded_sha256", "vocabulary"):
        client.delete_model_version_tag(version.name, str(version.version), f"conceptry.{tag}")
    for tag, value in tags.items():
        client.set_model_version_tag(version.name, str(version.version), f"conceptry.{tag}", value)


def test_tags_are_for_people_and_digests_in_a_file(tiny_version, tiny_options) -> None:
    shown = {"method": "splice", "encoder": tiny_options["encoder"], "vocabulary": tiny_version.params["vocabulary"]}
    file = Path(download_artifacts(run_id=tiny_version.run_id, artifact_path="registration/recorded.json"))
    digest = {"recorded_sha256": sha256_file(file)}
    assert tiny_version.tags == {f"conceptry.{tag}": value for tag, value in (shown | digest).items()}
    client = MlflowClient()
    assert client.get_run(tiny_version.run_id).info.run_name == "tiny v1"
    assert client.get_logged_model(tiny_version.model_id).name == f"tiny-{tiny_version.fingerprint[:8]}"
    assert "conceptry compare tiny" in str(client.get_registered_model("tiny").description)
    content = file.read_text("utf-8")
    client.log_text(tiny_version.run_id, content.replace("splice", "spliced"), "registration/recorded.json")
    with pytest.raises(IntegrityError, match=r"registration/recorded\.json of its run .* has changed; do not run"):
        find_version("tiny/1").lineage  # noqa: B018  # reading it is what is refused
    client.log_text(tiny_version.run_id, content, "registration/recorded.json")
    assert find_version("tiny/1").lineage == tiny_version.lineage


def test_importing_the_method_does_not_import_mlflow() -> None:
    code = (
        "import sys, conceptry.models.splice, conceptry.models.encoders, conceptry.models.images;"
        "heavy = {'mlflow', 'open_clip', 'onnxruntime', 'sklearn'} & {name.split('.')[0] for name in sys.modules};"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], env=environment(), cwd=ROOT.parent).returncode == 0


def test_a_version_whose_run_is_gone_is_named_and_left_out(tiny_version, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST

    def gone(self, run_id: str):
        raise MlflowException("no such run", RESOURCE_DOES_NOT_EXIST)

    monkeypatch.setattr(MlflowClient, "get_run", gone)
    with pytest.warns(BrokenVersionWarning, match=r"left out: models:/tiny/\d+: its run .* is gone from the store"):
        assert list_versions("tiny") == []
    with pytest.raises(InputError, match=r"models:/tiny/1: its run .* deleted for good \(mlflow gc\)"):
        find_version("tiny/1")

    def unreachable(self, run_id: str):
        raise MlflowException("no connection", INTERNAL_ERROR)

    monkeypatch.setattr(MlflowClient, "get_run", unreachable)
    with pytest.raises(MlflowException, match="no connection"):
        list_versions("tiny")


def test_what_a_version_holds_is_seen(tiny_options, tiny_classifier, tmp_path: Path) -> None:
    """Files of one name with other content give other hyperparameters, and so another row of a comparison."""
    words, groups = tmp_path / "words.txt", tmp_path / "groups.json"

    def params(method: str, **options: str) -> dict:
        explainer = load_method(method)
        with stage_package(explainer, partial(explainer.build, make_options(explainer, options))) as package:
            return dict(package.about.params)

    found = []
    for text, half in (("dog\ncat\n", ["age"]), ("dog\ncar\n", ["age", "dose"])):
        words.write_text(text)
        rest = [name for name in ("age", "height", "weight", "dose", "kind") if name not in half]
        groups.write_text(json.dumps({"half": half, "rest": rest}))
        of_words = params("splice", **(tiny_options | {"vocabulary": str(words)}))
        of_groups = params("harsanyi", model=f"classifier:{tiny_classifier}", players=str(groups))
        found.append(of_words | of_groups)
    one, other = found
    assert {name for name in one if one[name] != other[name]} == {"vocabulary_digest", "players_digest"}
    assert one["vocabulary_digest"] == hashlib.sha256(b"dog\ncat").hexdigest()[:8]
    assert {"encoder_digest", "model_digest"} <= one.keys()
    assert "baseline_digest" not in one  # a word, not a file
    assert not [name for name in params("perturbation", model="zoo:digits") if name.endswith("_digest")]
