"""Describing a network: the table, the pages, runs that go on, and where descriptions come from."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from conceptry.evaluation.isolation.client import Answer
from conceptry.evaluation.milan.client import describe_own_units
from conceptry.evaluation.units import folder as folders
from conceptry.evaluation.units.describe import describe_network, file_names
from conceptry.evaluation.units.folder import RECORD, open_folder, read_folder
from conceptry.evaluation.units.records import UnitDescription, read_descriptions, write_descriptions
from conceptry.evaluation.units.sources import exemplars_source, registered_units, score_note, version_source
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.folders import LOCK
from conceptry.models.images import png_bytes
from conceptry.models.milan.describer import describer
from conceptry.models.milan.describer.ranking import Alternative, Description
from conceptry.models.milan.exemplars.records import write_layer
from conceptry.models.milan.settings import DecodingSettings
from described import TEXTS, made_exemplars, made_source, made_units


def contents(folder: Path) -> dict[str, bytes]:
    """By path; what is kept of the exemplars by its folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != LOCK)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def top(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {LOCK}


def test_a_network_is_described(tmp_path: Path):
    said: list[str] = []
    written = describe_network(made_source(), tmp_path / "out", say=said.append)
    assert [path.name for path in written] == ["index.html", "layer1.html", "layer2.html"]
    assert said == [f"{layer}: 7 units, 6 different descriptions, 1 never active" for layer in ("layer1", "layer2")]
    assert top(tmp_path / "out") == {
        "index.html", "layer1.html", "layer2.html", "descriptions.csv", "describe.json", "strips"
    }  # fmt: skip
    rows = pd.read_csv(tmp_path / "out" / "descriptions.csv", dtype={"layer": str}, keep_default_na=False)
    assert list(rows.columns[:3]) == ["layer", "unit", "description"]
    assert rows["description"].tolist() == [*TEXTS, *TEXTS]
    assert rows["active"].tolist() == [True, False, True, True, True, True, True] * 2


def test_a_run_goes_on_where_one_was_killed(tmp_path: Path):
    describe_network(made_source(), tmp_path / "whole")
    source = made_source()

    class KilledError(Exception):
        pass

    def killed(layer: str) -> Iterator[UnitDescription]:
        units = source.describe(layer)
        yield next(units)
        if layer == "layer2":
            raise KilledError
        yield from units

    with pytest.raises(KilledError):
        describe_network(dataclasses.replace(source, describe=killed), tmp_path / "out")
    assert top(tmp_path / "out") == {"index.html", "layer1.html", "descriptions.csv", "describe.json", "strips"}
    assert len(read_descriptions(tmp_path / "out" / "descriptions.csv")) == 7
    again, said = made_source(), list[str]()
    describe_network(again, tmp_path / "out", say=said.append)
    assert again.notes == ["layer2"]  # the only one that was asked about
    assert said[0] == "layer1: is there already, 7 units"
    out, whole = contents(tmp_path / "out"), contents(tmp_path / "whole")
    notes = {"index.html", "layer1.html", "layer2.html"}  # they say which layers were asked about
    assert {name: out[name] for name in out.keys() - notes} == {name: whole[name] for name in whole.keys() - notes}


def test_a_run_that_was_killed_before_any_layer_was_done_is_gone_on_with(tmp_path: Path, monkeypatch):
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(folders, "write_descriptions", kill)  # when the first strips are there
    with pytest.raises(KeyboardInterrupt):
        describe_network(made_source(), tmp_path / "out")
    monkeypatch.undo()
    describe_network(made_source(), tmp_path / "out")
    describe_network(made_source(), tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_pages_are_rendered_from_what_is_kept(tmp_path: Path):
    """Whatever becomes of the pages, and in whatever order layers were described, the data give them anew."""
    quiet = dataclasses.replace(made_source(), notes=())
    describe_network(quiet, tmp_path / "whole")
    describe_network(quiet, tmp_path / "parts", ["layer2"])
    describe_network(quiet, tmp_path / "parts")
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    for page in ("layer1.html", "index.html"):
        (tmp_path / "parts" / page).unlink()

    def never(layer: str) -> Iterator[UnitDescription]:
        raise AssertionError(layer)

    describe_network(dataclasses.replace(quiet, describe=never), tmp_path / "parts")
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_strips_are_kept_as_images(tmp_path: Path):
    describe_network(made_source(), tmp_path)
    names = {f"{unit}.{suffix}" for unit in (0, 2, 3, 4, 5, 6) for suffix in ("webp", "png")}  # unit 1 is never active
    assert {path.name for path in (tmp_path / "strips" / "layer1").iterdir()} == {*names, "strips.ndjson"}
    folder = read_folder(tmp_path)
    assert folder is not None
    truth = made_exemplars("layer1", 7, seed=6)
    for unit, own in zip(folder.with_strips(folder.units("layer1")), map(truth.unit, range(7)), strict=True):
        if not unit.active:
            assert unit.strip is None
            continue
        assert unit.strip is not None
        assert own.ids is not None
        assert own.activations is not None
        assert (unit.strip.ids, unit.strip.activations) == (tuple(own.ids), tuple(own.activations))
        with Image.open(tmp_path / "strips" / "layer1" / f"{unit.unit}.webp") as image:
            assert image.size == (48, 16)
    (tmp_path / "strips" / "layer1" / "3.webp").unlink()
    with pytest.raises(InputError, match=r"3\.webp: cannot be read, and strips\.ndjson beside it names it"):
        folder.with_strips(folder.units("layer1"))


def test_a_folder_of_an_earlier_release_is_refused(tmp_path: Path):
    (tmp_path / "layer1.html").write_text("")
    record = {"identity": {"version": "milan/1"}, "layers": {"layer1": "layer1.html"}}
    (tmp_path / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match="was written by an earlier release, whose pages alone hold the exemplars; "):
        describe_network(made_source(), tmp_path)


def test_a_run_that_described_nothing_does_not_keep_its_folder(tmp_path: Path):
    open_folder(tmp_path / "out", {"version": "milan/1"})
    describe_network(made_source(version="milan/2"), tmp_path / "out")
    assert json.loads((tmp_path / "out" / RECORD).read_text())["identity"]["version"] == "milan/2"


def test_a_folder_that_cannot_be_made_is_named():
    with pytest.raises(ConceptryError, match="/proc/nothing: cannot be written"):
        describe_network(made_source(), Path("/proc/nothing"))


def test_two_runs_do_not_write_one_folder(tmp_path: Path):
    source = made_source()

    def beside(layer: str):
        with pytest.raises(InputError, match="another run is writing descriptions there"):
            describe_network(source, tmp_path / "out")
        return source.describe(layer)

    describe_network(dataclasses.replace(source, describe=beside), tmp_path / "out")


def test_the_same_network_gives_the_same_bytes(tmp_path: Path):
    for name in ("one", "other"):
        describe_network(dataclasses.replace(made_source(), notes=()), tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_layers_are_added_to_a_folder(tmp_path: Path):
    describe_network(made_source(), tmp_path, ["layer2"])
    assert "rel=" not in (tmp_path / "layer2.html").read_text().replace('rel="up"', "").replace('rel="icon"', "")
    describe_network(made_source(), tmp_path)
    assert '<a href="layer1.html" rel="prev">' in (tmp_path / "layer2.html").read_text()
    units = read_descriptions(tmp_path / "descriptions.csv")
    assert [unit.layer for unit in units] == ["layer1"] * 7 + ["layer2"] * 7  # in the order of the network


def test_folders_of_something_else_are_refused(tmp_path: Path):
    describe_network(made_source(), tmp_path / "out", ["layer1"])
    with pytest.raises(InputError, match=r"holds descriptions with version 'milan/1', not 'milan/2'; give another"):
        describe_network(made_source(version="milan/2"), tmp_path / "out")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match="holds other files; expected a new folder, or one of this command"):
        describe_network(made_source(), tmp_path)
    with pytest.raises(InputError, match="expected a folder, this is a file"):
        describe_network(made_source(), tmp_path / "notes.txt")
    with pytest.raises(InputError, match="Units of a net: no layer 'layer9'; expected one of layer1, layer2"):
        describe_network(made_source(), tmp_path / "new", ["layer9"])


def test_file_names_are_plain_and_distinct():
    names = file_names(["blocks.9.mlp.fc1", "a b/\u002e./c", "A b/\u002e./c", "index", "..", "\u5c42"])
    assert list(names.values()) == [
        "blocks.9.mlp.fc1.html", "a_b_.._c.html", "A_b_.._c-2.html", "index-2.html", "layer.html", "_.html"
    ]  # fmt: skip


def test_tables_are_read_as_they_were_written(tmp_path: Path):
    units = [dataclasses.replace(unit, exemplars=None, activation=1.5, score=-0.5) for unit in made_units("0")]
    units = [dataclasses.replace(unit, alternatives=({"text": "other", "score": -1.25},)) for unit in units]
    units[0] = dataclasses.replace(units[0], description='commas, "quotes"\nand lines')
    write_descriptions(units, tmp_path / "d.csv")
    assert read_descriptions(tmp_path / "d.csv") == units  # layers of digits stay text


def test_tables_of_the_original_are_read(tmp_path: Path):
    table = tmp_path / "d.csv"
    table.write_text("layer,unit,description\nconv1,3,dogs\nconv1,4,\n")
    units = read_descriptions(table)
    assert [(unit.unit, unit.description, unit.active, unit.score) for unit in units] == [
        (3, "dogs", True, None),
        (4, "", False, None),
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("layer,unit\na,1\n", "has no column description; expected at least layer, unit, description"),
        ("", "has no column layer"),
        ("layer,unit,description\na,x,y\n", "line 2: expected numbers for unit and scores, a JSON list"),
        ("layer,unit,description,alternatives\na,1,y,5\n", "line 2: expected numbers for unit and scores, a JSON list"),
        ('layer,unit,description,alternatives\na,1,y,"[1, 2]"\n', "a JSON list for alternatives, got "),
        ("layer,unit,description,score\na,1,y,high\n", "line 2: expected numbers for unit and scores"),
        ("layer,unit,description\na,1,y\na,1,z\n", "layer a, unit 1 is there twice"),
    ],
)
def test_tables_that_are_none_are_refused(tmp_path: Path, text: str, sentence: str):
    (tmp_path / "d.csv").write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_descriptions(tmp_path / "d.csv")


VERSION: Any = SimpleNamespace(
    method="milan", uri="models:/milan/1", model_id="m-1",
    params={"units": '{"layer1": [[0, 2], [5, 5]]}', "model": "zoo:net", "data": "zoo:data", "describer": "zoo:d",
            "strategy": "rerank", "temperature": "0.2"},
)  # fmt: skip


class Asked:
    """A version that says "unit N" of unit N, and that unit 1 is never active; keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[tuple[list[tuple[str, int]], dict[str, Any]]] = []

    def __call__(self, rows: pd.DataFrame, params: Any = None) -> Answer:
        asked = list(zip(rows["layer"], rows["unit"], strict=True))
        self.requests.append((asked, dict(params or {})))
        return Answer(pd.DataFrame([self.answer(*unit, bool((params or {})["exemplars"])) for unit in asked]), 0.1)

    def answer(self, layer: str, unit: int, exemplars: bool) -> dict[str, Any]:
        own = made_exemplars(layer, 8).unit(unit)
        images = [png_bytes(Image.fromarray(np.moveaxis(image, 0, -1))) for image in own.images]
        masks = [png_bytes(Image.fromarray(255 * mask[0]).convert("1")) for mask in own.masks]
        active = unit != 1
        other = {"text": "other", "score": -2.0, "log_likelihood": -3.0, "pmi": 0.5}
        return {
            "layer": layer, "unit": unit, "active": active, "description": f"unit {unit}" if active else "",
            "score": -1.0 * active, "log_likelihood": -2.0 * active, "pmi": 1.0 * active,
            "alternatives": [other] if active else [], "ids": [7, 8, 9], "activations": [3.0, 2.0, 1.0],
            "images": images if exemplars else [], "masks": masks if exemplars else [],
        }  # fmt: skip


def test_a_version_is_asked_for_its_units(tmp_path: Path):
    predict = Asked()
    source = version_source(predict, VERSION, {"beam_size": 5})
    assert source.layers == {"layer1": 4}
    assert source.about == "zoo:net, exemplars of zoo:data, described by zoo:d (models:/milan/1)"
    units = list(source.describe("layer1"))
    assert predict.requests == [
        ([("layer1", 0), ("layer1", 1), ("layer1", 2), ("layer1", 5)], {"beam_size": 5, "exemplars": True})
    ]
    truth = made_exemplars("layer1", 8).unit(2)
    unit = units[2]
    assert (unit.unit, unit.description, unit.score, unit.pmi, unit.activation) == (2, "unit 2", -1.0, 1.0, 3.0)
    assert unit.exemplars is not None
    np.testing.assert_array_equal(unit.exemplars.images, truth.images)
    np.testing.assert_array_equal(unit.exemplars.masks, truth.masks)
    assert (units[1].active, units[1].description, units[1].score) == (False, "", None)
    describe_network(source, tmp_path / "out")
    assert "unit 5" in (tmp_path / "out" / "layer1.html").read_text("utf-8")


def test_many_units_are_asked_some_at_a_time():
    predict = Asked()
    wanted = [("layer1", unit % 8) for unit in range(150)]
    found = list(describe_own_units(predict, wanted, {}, exemplars=False))
    assert [len(units) for units, _ in predict.requests] == [64, 64, 22]
    assert [unit.unit for unit in found] == [unit for _, unit in wanted]
    assert all(unit.exemplars is None for unit in found)


def test_versions_of_other_methods_are_refused():
    with pytest.raises(InputError, match="models:/milan/1 is a version of splice; units are described by versions of"):
        registered_units(cast("Any", SimpleNamespace(**(vars(VERSION) | {"method": "splice"}))))


class Spoken:
    """A describer that says how many masks have a pixel."""

    settings = DecodingSettings()
    decoder = language_model = torch.nn.Linear(1, 1)

    def describe(self, images: np.ndarray, masks: np.ndarray, settings: DecodingSettings) -> list[Description]:
        assert len(images)
        assert images.dtype == masks.dtype == np.uint8
        other = Alternative("other", -2.0, -3.0, 1.0)
        return [
            Description(f"{int(mask.any((1, 2, 3)).sum())} by {settings.strategy}", (), -1.0, -2.0, -3.0, 1.0, (other,))
            for mask in masks
        ]


def test_exemplars_in_a_folder_are_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(describer, "load_describer", lambda name, device: Spoken())
    for layer in ("0", "10", "2"):
        write_layer(tmp_path / "net" / "data", made_exemplars(layer, 3))
    source = exemplars_source(tmp_path / "net" / "data", "zoo:emoji-milan", {"strategy": "greedy"}, "cpu")
    assert dict(source.layers) == {"0": 3, "2": 3, "10": 3}
    units = list(source.describe("2"))
    assert [unit.description for unit in units] == ["3 by greedy", "", "3 by greedy"]
    assert [unit.active for unit in units] == [True, False, True]
    assert units[0].alternatives == ({"text": "other", "score": -2.0, "log_likelihood": -3.0, "pmi": 1.0},)
    written = describe_network(source, tmp_path / "out")
    assert [path.name for path in written] == ["index.html", "0.html", "2.html", "10.html"]
    other = exemplars_source(tmp_path / "net" / "data", "zoo:emoji-milan", {"strategy": "beam"}, "cpu")
    with pytest.raises(InputError, match="holds descriptions with params strategy 'greedy', not 'beam'; give"):
        describe_network(other, tmp_path / "out")
    json.loads((tmp_path / "out" / "describe.json").read_text())


def test_what_no_describer_knows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(describer, "load_describer", lambda name, device: Spoken())
    with pytest.raises(InputError, match="holds no exemplars"):
        exemplars_source(tmp_path, "zoo:emoji-milan", {}, "cpu")
    write_layer(tmp_path, made_exemplars("layer1", 2))
    with pytest.raises(InputError, match="describers have no parameter 'beam'; expected one of strategy, temperature"):
        exemplars_source(tmp_path, "zoo:emoji-milan", {"beam": 5}, "cpu")
    for params, message in (
        ({"beam_size": "x"}, "beam_size must be of type int, got 'x'"),
        ({"beam_size": 2.5}, r"beam_size must be of type int, got 2\.5"),
        ({"temperature": None}, "temperature must be of type float, got None"),
        ({"seed": True}, "seed must be of type int, got True"),
    ):
        with pytest.raises(InputError, match=message):
            exemplars_source(tmp_path, "zoo:emoji-milan", params, "cpu")
    with pytest.raises(InputError, match="clip ranks by a dual encoder, which registered versions have"):
        exemplars_source(tmp_path, "zoo:emoji-milan", {"clip": True}, "cpu")


def test_what_the_score_is():
    assert "\N{MINUS SIGN} 0.2 log p(text)" in score_note({"strategy": "rerank", "temperature": "0.2"})
    assert score_note({"strategy": "greedy"}).startswith("Score: log p(text | pictures); PMI")
    assert "cosines" in score_note({"strategy": "rerank", "clip": True})
    assert "similarity of words" in score_note({"describer": "clip-dissect", "strategy": "rerank"})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("describe", "--output", "out"), "expected the URI of a milan version, or --describer with --exemplars"),
        (
            ("describe", "tiny/1", "--describer", "x", "--output", "out"),
            "a version has its own describer and",
        ),
        (("describe", "--describer", "zoo:emoji-milan", "--exemplars", "nowhere", "--output", "out"), "nowhere"),
        (("describe", "tiny/1", "--output", "out", "--params", "{"), "--params must be JSON"),
    ],
)
def test_misuse_is_refused(command_line, arguments: tuple[str, ...], sentence: str):
    code, _, err = command_line(*arguments)
    assert code == 2
    assert sentence in err
