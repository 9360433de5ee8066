"""analyse: orders of units by their descriptions, and curves that equal accuracies computed one by one."""

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from conceptry.evaluation.cli.app import cli
from conceptry.evaluation.units import parts_of_speech
from conceptry.evaluation.units.ablation import analyse_network, units_in_order, write_curves
from conceptry.evaluation.units.datasets import load_parts
from conceptry.evaluation.units.folder import DescriptionFolder
from conceptry.evaluation.units.plots import draw_analysis
from conceptry.evaluation.units.records import FILE, UnitDescription, write_descriptions
from conceptry.evaluation.units.sources import NamedUnits, named_units
from conceptry.models.errors import InputError
from conceptry.models.explained.image_inputs import as_pixel_model
from conceptry.models.explained.load import load_explained
from conceptry.models.explained.source import OwnPreparation
from conceptry.models.milan.ablation import accuracy
from conceptry.models.milan.exemplars.checkpoint import said_of

UNITS = [
    UnitDescription("4", 0, "a red dog on grass", pmi=1.0),
    UnitDescription("4", 1, "dogs", pmi=3.0),
    UnitDescription("4", 2, "red", pmi=2.0),
    UnitDescription("4", 3, "", active=False),
    *(UnitDescription("4", unit, "lines", pmi=0.5) for unit in range(4, 8)),
    *(UnitDescription("2", unit, "red corners", score=float(unit)) for unit in range(3)),
]


@pytest.fixture(scope="module")
def named() -> NamedUnits:
    return NamedUnits("units/1", UNITS, as_pixel_model(load_explained("zoo:digits", "cpu")))


def test_the_network_of_a_table_is_prepared_as_for_its_exemplars(checkpoint: Path, tmp_path: Path):
    name, half = f"torchvision:squeezenet1_1@{checkpoint}", (0.5, 0.5, 0.5)
    write_descriptions([UnitDescription("features.3", 0, "red")], tmp_path / FILE)
    with pytest.raises(InputError, match="give input_size, mean and std as they were in its training"):
        named_units(str(tmp_path), {}, "cpu", name)
    said = OwnPreparation(("cat", "dog", "owl"), 48, half, half)
    model = named_units(str(tmp_path), {}, "cpu", name, said=said).model
    assert (model.size, model.classes) == ((48, 48), ("cat", "dog", "owl"))

    identity = {"network": {**said.to_record(), "classes": None}}  # as descriptions of exemplars keep it
    DescriptionFolder(tmp_path, identity, {}).save()
    model = named_units(str(tmp_path), {}, "cpu", name, said=OwnPreparation(["a", "b", "c"], 48)).model
    assert (model.size, model.classes, said_of(model).mean) == ((48, 48), ("a", "b", "c"), [0.5] * 3)
    with pytest.raises(InputError, match=r"its exemplars were computed with .*; leave input_size, mean, std and"):
        named_units(str(tmp_path), {}, "cpu", name, said=OwnPreparation(size=64))


def test_orders():
    layer = UNITS[:8]
    assert units_in_order(layer, "words", ["red", "dog"]) == [("4", 1), ("4", 2), ("4", 0)]
    assert [unit for _, unit in units_in_order(layer, "length")] == [0, 1, 2, 4, 5, 6, 7]
    assert [unit for _, unit in units_in_order(layer, "length", reverse=True)] == [1, 2, 4, 5, 6, 7, 0]
    assert [unit for _, unit in units_in_order(layer, "score")] == [1, 2, 0, 4, 5, 6, 7]
    assert [unit for _, unit in units_in_order(layer, "score", reverse=True)] == [4, 5, 6, 7, 0, 2, 1]
    for by, words in (("words", []), ("score", ["red"])):
        with pytest.raises(InputError, match="words are what units are chosen by"):
            units_in_order(layer, by, words)
    with pytest.raises(InputError, match="words, length, score, adjectives, nouns, verbs, prepositions, got 'size'"):
        units_in_order(layer, "size")


def test_orders_by_parts_of_speech(monkeypatch: pytest.MonkeyPatch):
    layer = UNITS[:8]
    if parts_of_speech.TAGGER_THERE:
        assert [unit for _, unit in units_in_order(layer, "adjectives")] == [0, 1, 2, 4, 5, 6, 7]
        assert units_in_order(layer, "nouns")[0] == ("4", 0)
        assert units_in_order(layer, "prepositions", reverse=True)[-1] == ("4", 0)
    monkeypatch.setattr(parts_of_speech, "TAGGER_THERE", False)
    with pytest.raises(InputError, match=r"is not installed; pip install 'conceptry\[language\]', or HanTa"):
        units_in_order(layer, "nouns")


def test_curves_are_accuracies_one_by_one(named: NamedUnits, tmp_path: Path):
    data = load_parts("zoo:digits", named.model, 60)
    shares: list[float] = []
    found = analyse_network(named, data, "words", ["red"], 3, progress=lambda _, share: shares.append(share))
    assert [(each.layer, each.n_units, each.order) for each in found] == [
        ("4", 8, (("4", 2), ("4", 0))),
        ("2", 3, (("2", 2), ("2", 1), ("2", 0))),
    ]
    assert shares[-1] == 1
    for each in found:
        (part,) = each.parts
        assert (part.part, part.n_images) == ("heldout", 60)
        expected = [accuracy(named.model, data["heldout"], each.order[:count]) for count in each.counts]
        assert part.described.tolist() == expected
        assert part.random.shape == (3, len(each.counts))
        assert (part.random[:, 0] == expected[0]).all()
    again = analyse_network(named, data, "words", ["red"], 3)
    assert all(np.array_equal(a.parts[0].random, b.parts[0].random) for a, b in zip(found, again, strict=True))

    write_curves(found, "words", tmp_path / "curves.csv")
    with (tmp_path / "curves.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == (3 + 4) * 4
    first = next(row for row in rows if row["order"] == "words" and row["ablated"] == "2")
    assert (first["layer"], float(first["accuracy"])) == ("4", pytest.approx(found[0].parts[0].described[2], abs=1e-5))

    figure = draw_analysis(found, "title", "described")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["4, 2 of 8 units", "2, 3 of 3 units"]
    figure.savefig(tmp_path / "curves.png")


def test_what_cannot_be_analysed_is_refused(named: NamedUnits):
    data: Any = {}
    with pytest.raises(InputError, match="no description holds zebra; `conceptry audit` counts units by words"):
        analyse_network(named, data, "words", ["zebra"], 3)
    with pytest.raises(InputError, match="units/1: has no active units"):
        analyse_network(NamedUnits("units/1", UNITS[3:4], named.model), data, "score", [], 3)
    with pytest.raises(InputError, match="expected 2 or more random orders, whose spread is shown, got 0"):
        analyse_network(named, data, "score", [], 0)


def test_the_command(tmp_path: Path):
    write_descriptions([unit for unit in UNITS if unit.layer == "4"], tmp_path / "units.csv")
    base = ["analyse", str(tmp_path / "units.csv"), "--model", "zoo:digits", "--data", "zoo:digits", "--device", "cpu"]
    base += ["--size", "40", "--orders", "2"]
    for suffix in ("png", "csv"):
        output = tmp_path / f"curves.{suffix}"
        done = CliRunner().invoke(cli, [*base, "--by", "score", "--output", str(output)], catch_exceptions=False)
        assert done.exit_code == 0
        said = " ".join(done.output.split())
        assert re.search(
            r"4, heldout: accuracy [01]\.\d{3}; with 7 of 8 units ablated [01]\.\d{3}; as many at random", said
        )
        assert output.stat().st_size > 100
    for arguments, message in [
        ([], "expected either --words such as red,blue, or --by length, score or a part of speech"),
        (["--words", "red", "--by", "score"], "expected either --words such as red,blue, or --by length"),
        (["--words", "red", "--output", "curves.txt"], "--output must end in .png, .svg, .pdf or .csv"),
    ]:
        with pytest.raises(InputError, match=re.escape(message)):
            CliRunner().invoke(cli, [*base, *arguments], catch_exceptions=False)
    assert not torch.is_inference_mode_enabled()
