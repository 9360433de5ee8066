"""MLflow's own door: objects are saved, logged, registered and loaded; what is no explainer is refused."""

import re
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

import conceptry
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.manifest import PACKAGE
from conceptry.models.splice import Splice
from conceptry.registry import find_version, list_versions, load_model, log_model, register, save_model


@pytest.fixture(scope="module")
def explainer(store: str, tiny_options: dict[str, str]) -> Splice:
    return Splice(tiny_options["encoder"], tiny_options["vocabulary"], l1_penalty=0.2)


@pytest.fixture(scope="module")
def saved(explainer: Splice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_model(explainer, folder)
    return folder


def _words(explainer: Splice) -> list[dict]:
    return explainer.explain(["red dog"]).to_dict()["explanations"]


def test_a_saved_explainer_comes_back(explainer: Splice, saved: Path) -> None:
    assert _words(load_model(saved, "cpu")) == _words(explainer)
    with pytest.raises(InputError, match=re.escape(f"{saved}: exists already; name a new folder")):
        save_model(explainer, saved)


def test_a_changed_file_is_not_loaded(saved: Path) -> None:
    vocabulary = next(saved.rglob(f"{PACKAGE}/vocabulary.txt"))
    text = vocabulary.read_text("utf-8")
    vocabulary.write_text(text.replace("dog", "hog"), encoding="utf-8")
    try:
        with pytest.raises(ConceptryError, match=re.escape("vocabulary.txt")):
            load_model(saved)
    finally:
        vocabulary.write_text(text, encoding="utf-8")


def test_a_model_is_logged_to_the_active_run_and_registered_nowhere(explainer: Splice) -> None:
    with mlflow.start_run() as run:
        info = log_model(explainer, "words")
    assert info.run_id == run.info.run_id
    assert _words(load_model(info.model_uri)) == _words(explainer)
    with pytest.raises(InputError, match="a description belongs to a registered version; give registered_model_name"):
        log_model(explainer, description="of nothing")


def test_an_object_and_its_options_are_one_version(explainer: Splice, tiny_options: dict[str, str]) -> None:
    info = log_model(explainer, registered_model_name="by-object", description="Made in Python.")
    assert (info.registered_model_version, find_version("by-object/1").method) == (1, "splice")
    again = log_model(explainer, registered_model_name="by-object")
    assert again.registered_model_version == 1
    assert len(list_versions("by-object")) == 1
    assert not register("splice", tiny_options | {"l1_penalty": 0.2}, name="by-object").created
    assert _words(load_model("by-object/1")) == _words(explainer)


@pytest.mark.parametrize("door", [log_model, lambda it: save_model(it, "nowhere")])
def test_what_is_no_explainer_is_refused(store: str, door: Callable) -> None:
    expected = "expected an explainer (Splice, Harsanyi, Perturbation or Milan), got a dict"
    with pytest.raises(InputError, match=re.escape(expected)):
        door({"method": "splice"})


def test_other_models_are_refused(store: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder of an MLflow model"):
        load_model(tmp_path)
    with pytest.raises(InputError, match="no registered model 'nobody'"):
        load_model("nobody/1")
    mlflow.pyfunc.save_model(tmp_path / "other", python_model=lambda model_input: model_input, pip_requirements=[])
    with pytest.raises(InputError, match="was not made by conceptry"):
        load_model(tmp_path / "other")


def test_names_are_found_when_they_are_asked_for() -> None:
    assert conceptry.Splice is Splice
    assert set(conceptry.__all__) <= set(dir(conceptry))
    with pytest.raises(AttributeError, match="module 'conceptry' has no attribute 'Shap'"):
        _ = conceptry.Shap
