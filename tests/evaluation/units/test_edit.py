"""edit: the units that descriptions name, how many of them are silenced, and what comes back."""

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from conceptry.evaluation.cli.app import cli
from conceptry.evaluation.units.ablation import edit_network, read_units, record, steps, units_to_silence, write_record
from conceptry.evaluation.units.datasets import load_parts, read_labelled, split_parts, unseen_parts
from conceptry.evaluation.units.plots import draw_edit
from conceptry.evaluation.units.records import UnitDescription, write_descriptions
from conceptry.evaluation.units.refit import last_linear
from conceptry.evaluation.units.sources import NamedUnits, named_units
from conceptry.models.errors import InputError
from conceptry.models.explained.image_inputs import as_pixel_model
from conceptry.models.explained.load import load_explained
from conceptry.models.milan.ablation import LabelledImages
from conceptry.models.milan.exemplars.activations import record_activations
from conceptry.models.milan.exemplars.sources import ArraySource
from conceptry.registry import register

COLOURS = ["black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow"]


class Shortcut(nn.Module):
    """Two classes. Unit 0 of `signs` sees the class weakly, unit 1 a shortcut strongly, unit 2 nothing, 3 the class."""

    def __init__(self) -> None:
        super().__init__()
        self.signs = nn.Conv2d(3, 4, 1, bias=False)
        self.signs.weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]])[..., None, None]
        self.late = nn.Identity()
        self.last = nn.Linear(4, 2, bias=False)
        self.last.weight.data = torch.tensor([[1.0, 5, 1, 1], [-1, -5, -1, -1]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.late(self.signs(x)).mean(dim=(2, 3)))


class ShortcutModel:
    name, modality, form, classes, columns = "test:shortcut", "image", "logits", ("plus", "minus"), ()
    channels, resizes, size, device = 3, False, (2, 2), torch.device("cpu")
    lineage: ClassVar = {"explained_model": "test:shortcut", "explained_sha256": "f" * 64}

    def __init__(self) -> None:
        self.module = Shortcut().eval()

    def from_pixels(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)


def _part(n: int, agrees: bool, seed: int) -> LabelledImages:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    sign = 1.0 - 2 * labels
    pixels = np.zeros((n, 3, 2, 2), dtype=np.float32)
    pixels[:, 0] = sign[:, None, None]
    pixels[:, 1] = sign[:, None, None] * (1 if agrees else -1)
    return LabelledImages(torch.from_numpy(pixels), labels)


def _parts(seed: int) -> dict[str, LabelledImages]:
    return {"agreeing": _part(20, True, seed), "disagreeing": _part(30, False, seed + 1)}


def _unit(layer: str, unit: int, description: str, pmi: float | None = 1.0, active: bool = True) -> UnitDescription:
    return UnitDescription(layer, unit, description, pmi=pmi, active=active)


UNITS = [
    _unit("signs", 0, "signs on the left", 3.0),
    _unit("signs", 1, "a red frame", 2.0),
    _unit("signs", 2, "red things", 1.0),
    _unit("signs", 3, "", None, active=False),
    *(_unit("late", k, text) for k, text in enumerate(["signs", "striped", "a sign", "anything"])),
]


@pytest.fixture
def named() -> NamedUnits:
    model: Any = ShortcutModel()
    return NamedUnits("units/1", UNITS, model)


def test_units_are_ordered_from_the_last_layer_the_surest_first():
    units = [
        _unit("a", 0, "red", 9.0),
        _unit("a", 1, "reds", None),
        _unit("b", 5, "a red dog", 1.0),
        _unit("b", 2, "red", 2.0),
        _unit("b", 3, "striped", 7.0),  # holds no red as a word
        _unit("b", 4, "red", 3.0, active=False),
        UnitDescription("b", 6, "red", score=1.5),
    ]
    assert units_to_silence(units, ["red", "blue"]) == (("b", 2), ("b", 6), ("b", 5), ("a", 0), ("a", 1))
    with pytest.raises(InputError, match=re.escape("no description holds blue, green; `conceptry audit` counts")):
        units_to_silence(units, ["blue", "green"])


def test_counts_go_from_none_to_all_and_are_denser_at_first():
    assert steps(1) == (0, 1)
    assert steps(4) == (0, 1, 2, 3, 4)
    even, dense = steps(90), steps(90, 1.5)
    assert even == tuple(range(0, 91, 10))
    assert (dense[0], dense[-1]) == (0, 90)
    assert (np.diff(dense) > 0).all()
    assert dense[1] < 5


def test_the_shortcut_is_silenced_and_accuracy_comes_back(named: NamedUnits):
    shares: list[float] = []
    edit = edit_network(
        named, ["red"], "test", _parts(10), _parts(20), 40, progress=lambda _, share: shares.append(share)
    )
    assert edit.order == (("signs", 1), ("signs", 2))
    assert edit.counts == (0, 1, 2)
    assert edit.silenced == (("signs", 1),)  # the fewest of equally good
    assert edit.validation.tolist() == [0.5, 1, 1]
    agreeing, disagreeing = edit.parts
    assert (agreeing.part, disagreeing.part, disagreeing.n_images) == ("agreeing", "disagreeing", 30)
    assert agreeing.described.tolist() == [1, 1, 1]
    assert disagreeing.described.tolist() == [0, 1, 1]
    found = disagreeing.random[:, 1]  # one of four units at random: the shortcut is one of them
    assert set(found) == {0.0, 1.0}
    assert 0.05 < found.mean() < 0.5
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_last_layer_fitted_anew_is_the_other_cure(named: NamedUnits):
    edit = edit_network(named, ["red"], "test", _parts(10), _parts(20), 2, refit=True)
    assert [part.described[0] for part in edit.parts] == [1, 0]
    assert edit.refitted == {"agreeing": 1, "disagreeing": 1}  # it learns to leave the shortcut alone
    assert record(edit, named.model)["accuracy"]["disagreeing"]["refitted"] == 1  # type: ignore[index]
    last = named.model.module.last.weight.data
    assert torch.equal(last, Shortcut().last.weight.data)  # the network stays as it was
    named.model.module.last = nn.Linear(4, 3)  # type: ignore[assignment]
    with pytest.raises(InputError, match="its outputs are not those of a linear layer, which could be fitted anew"):
        last_linear(named.model)


def test_nothing_is_silenced_where_that_is_best(named: NamedUnits):
    edit = edit_network(named, ["left"], "test", _parts(10), _parts(20), 2)
    assert edit.order == (("signs", 0),)
    assert edit.silenced == ()
    with pytest.raises(InputError, match="expected 2 or more random orders, whose spread is shown, got 1"):
        edit_network(named, ["left"], "test", _parts(10), _parts(20), 1)


def test_the_record_says_what_was_silenced_and_reads_back(named: NamedUnits, tmp_path: Path):
    edit = edit_network(named, ["red"], "test", _parts(10), _parts(20), 5)
    write_record(edit, named.model, tmp_path / "edit.json")
    written = json.loads((tmp_path / "edit.json").read_text())
    assert written == json.loads(json.dumps(record(edit, named.model)))
    assert (written["network"], written["network_sha256"], written["words"]) == ("test:shortcut", "f" * 64, ["red"])
    assert written["accuracy"]["disagreeing"]["before"] == 0
    assert written["accuracy"]["disagreeing"]["after"] == 1
    assert read_units(tmp_path / "edit.json") == {"signs": [1]}
    (tmp_path / "other.json").write_text('{"units": 3}')
    for name in ("other.json", "absent.json"):
        with pytest.raises(InputError, match=f"{name}: expected the record of an edit, with its units"):
            read_units(tmp_path / name)


def test_the_picture_shows_every_accuracy(named: NamedUnits):
    figure = draw_edit(edit_network(named, ["red"], "test", _parts(10), _parts(20), 5))
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert {"0.00", "1.00", "1 chosen"} <= set(texts)
    assert len(figure.axes[0].patches) == 6
    assert figure.axes[1].get_title(loc="left") == "accuracy, disagreeing"
    figure.savefig("/dev/null", format="png")


def test_halves_of_the_data_are_apart_and_complete():
    parts = {"a": _part(9, True, 0)}
    tagged = {"a": LabelledImages(torch.arange(9.0), np.arange(9))}
    choose, report = split_parts(tagged, 0)
    assert sorted([*choose["a"].labels, *report["a"].labels]) == list(range(9))
    assert choose["a"].pixels.tolist() == choose["a"].labels.tolist()
    assert [len(half["a"].labels) for half in split_parts(parts, 0)] == [5, 4]
    with pytest.raises(InputError, match="a: expected two pictures or more"):
        split_parts({"a": _part(1, True, 0)}, 0)


def test_pictures_need_the_classes_of_the_network():
    model = as_pixel_model(load_explained("zoo:digits", "cpu"))
    images, labels = np.zeros((3, 8, 8, 3), np.uint8), np.array([0, 1, 1])
    found = read_labelled(ArraySource("some", images, labels, ("7", "2")), model)
    assert found.labels.tolist() == [7, 2, 2]
    assert found.pixels.shape == (3, 1, 8, 8)
    with pytest.raises(
        InputError, match=re.escape("some: class 'dog' is not one of zoo:digits; expected some of 0, 1")
    ):
        read_labelled(ArraySource("some", images, labels, ("7", "dog")), model)
    with pytest.raises(InputError, match="some: accuracy needs classes: a folder for each"):
        read_labelled(ArraySource("some", images), model)
    with pytest.raises(InputError, match="size must be at least 1 picture, got 0"):
        load_parts("zoo:digits", model, 0)
    parts = load_parts("zoo:digits", model, 12)
    assert {part: len(data.labels) for part, data in parts.items()} == {"heldout": 12}
    assert unseen_parts("zoo:digits", model, 3, 0) is None


def test_units_of_a_table_need_the_network_and_a_version_the_same_weights(tmp_path: Path, monkeypatch):
    write_descriptions(UNITS, tmp_path / "descriptions.csv")
    found = named_units(str(tmp_path), {}, "cpu", "zoo:digits")
    assert (found.title, len(found.units), found.model.name) == (tmp_path.name, 8, "zoo:digits")
    assert found.numbers() == {"signs": [0, 1, 2, 3], "late": [0, 1, 2, 3]}
    assert {unit.layer for unit in found.of(["late"]).units} == {"late"}
    with pytest.raises(InputError, match="has no units of layer 'lat'; expected signs, late"):
        found.of(["lat"])
    with pytest.raises(InputError, match="holds descriptions alone; name the network with --model"):
        named_units(str(tmp_path), {}, "cpu")
    with pytest.raises(InputError, match="--params are of a search by a version"):
        named_units(str(tmp_path), {"strategy": "beam"}, "cpu", "zoo:digits")


@pytest.mark.parametrize(
    ("network", "layer", "other"),
    [("zoo:scenes", "layer4", "zoo:scenes-spurious"), ("zoo:emoji-clip", "act3", "zoo:scenes")],
)
def test_a_version_is_refused_for_a_network_of_other_weights(
    store: str, colour_describer: Path, tmp_path: Path, network: str, layer: str, other: str
):
    """Versions as `register` makes them, of a classifier and of an encoder's half, whose digest is another one."""
    options = {"model": network, "layers": layer, "size": 24, "k": 2, "describer": f"describer:{colour_describer}"}
    version = register("milan", options, name=f"weights-of-{layer}").version
    assert version.lineage["explained_model"] == network
    expected = f"{version.uri} describes the units of other weights than those of {other}; register it again"
    with pytest.raises(InputError, match=re.escape(expected)):
        named_units(version.uri, {}, "cpu", other)
    assert named_units(version.uri, {}, "cpu").numbers().keys() == {layer}


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Units of layer4 of the network that reads backgrounds, named by a probe: the share of variance that a word's
    values explain, of the largest activations over scenes in which objects and colours are independent.
    """
    from conceptry.models.zoo.emoji_world import scenes
    from conceptry.models.zoo.emoji_world.scenes import EmojiScenes

    pictures, facts = scenes.labelled(EmojiScenes("train", 400, seed=9, n_objects=1, objects=scenes.CLASSES))
    model = as_pixel_model(load_explained("zoo:scenes-spurious", "cpu"))
    with record_activations(model.module, ["layer4"], model.name) as recorder:
        model.from_pixels(model.to_pixels(pictures))
        largest = recorder.take("layer4", len(pictures)).amax(dim=(2, 3)).numpy()
    shares = []
    for values in facts[:, :2].T:
        groups = [largest[values == value] for value in np.unique(values)]
        between = sum(len(group) * (group.mean(axis=0) - largest.mean(axis=0)) ** 2 for group in groups)
        shares.append(between / (len(largest) * largest.var(axis=0) + 1e-9))
    objects, colours = shares
    units = []
    for unit in range(largest.shape[1]):
        best = largest[:, unit].argsort()[::-1][:15]
        if colours[unit] > objects[unit]:
            word = f"{COLOURS[np.bincount(facts[best, 1]).argmax()]} backgrounds"
        else:
            word = f"{scenes.CLASSES[np.bincount(facts[best, 0]).argmax()]}s"
        units.append(_unit("layer4", unit, word, float(abs(colours[unit] - objects[unit]))))
    folder = tmp_path_factory.mktemp("probed")
    write_descriptions(units, folder / "descriptions.csv")
    return folder


def test_the_command_regains_what_the_background_took(probed: Path, tmp_path: Path):
    arguments = [
        *("edit", str(probed), "--model", "zoo:scenes-spurious", "--words", ",".join(COLOURS), "--size", "120"),
        *("--orders", "3", "--device", "cpu", "--output", str(tmp_path / "edit.png")),
    ]
    done = CliRunner().invoke(cli, [*arguments, "--record", str(tmp_path / "edit.json")], catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads((tmp_path / "edit.json").read_text())["accuracy"]
    assert found["agreeing"]["after"] >= 0.98
    disagreeing = found["disagreeing"]
    assert disagreeing["pictures"] == 120
    assert disagreeing["after"] >= disagreeing["before"] + 0.1
    assert disagreeing["after"] >= disagreeing["random_mean"] + 0.15
    assert disagreeing["random_mean"] <= disagreeing["before"]
    assert "silenced: " in done.output
    assert (tmp_path / "edit.png").read_bytes().startswith(b"\x89PNG")


def test_a_command_that_cannot_be_done_is_refused_before_the_work(probed: Path, tmp_path: Path):
    base = ["edit", str(probed), "--model", "zoo:scenes-spurious", "--device", "cpu"]
    for arguments, message in [
        (["--words", "red", "--output", "edit.txt"], r"--output must end in \.png, \.svg or \.pdf, got edit\.txt"),
        (["--words", "red", "--record", str(tmp_path)], "expected a file, this is a folder"),
        (["--words", " , "], "expected words separated by commas such as red,blue"),
        (["--words", "zebra", "--size", "2"], "no description holds zebra"),
        (
            ["--words", "red", "--clean", "zoo:scenes", "--size", "2"],
            "has clean images of its own; leave --clean out",
        ),
        (["--words", "red", "--layer", "layer5"], "has no units of layer 'layer5'; expected layer4"),
    ]:
        given = arguments if "--output" in arguments else [*arguments, "--output", str(tmp_path / "edit.png")]
        with pytest.raises(InputError, match=message):
            CliRunner().invoke(cli, [*base, *given], catch_exceptions=False)
    assert not list(tmp_path.glob("edit*"))
