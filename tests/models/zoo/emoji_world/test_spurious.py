"""Scenes whose background gives the object away; networks that start from others, and that learn properties aside."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from conceptry.models.errors import InputError
from conceptry.models.explained.classifiers.architectures import Shape, build_network
from conceptry.models.explained.classifiers.classifier import read_classifier
from conceptry.models.shipped import weights_directory
from conceptry.models.training import classifiers
from conceptry.models.training.classifiers import train_classifier
from conceptry.models.training.recipes import RECIPES, ClassifierTraining
from conceptry.models.zoo.datasets import Dataset, load_dataset
from conceptry.models.zoo.emoji_world import scenes as spurious
from conceptry.models.zoo.emoji_world.emoji import COLOURS, PATTERNS
from conceptry.models.zoo.emoji_world.scenes import CLASSES, HELD_OUT_COLOURS, OWN_COLOUR, SpuriousScenes, labelled

TINY = ClassifierTraining("stages", epochs=1, batch_size=32, lr=0.003)


@pytest.fixture(scope="module")
def small() -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spurious, "N_TRAIN", 66)
        patch.setattr(spurious, "N_HELDOUT", 44)
        return load_dataset("scenes-spurious")


def test_every_colour_is_the_own_one_of_two_classes():
    assert len(set(CLASSES)) == 22
    assert sorted(OWN_COLOUR.values()) == sorted([*COLOURS, *COLOURS])


@pytest.mark.parametrize("part", spurious.PARTS)
def test_parts_show_what_they_say(part: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spurious, "OWN_SHARE", 0.7)
    scenes = SpuriousScenes(part, 300)
    shown = [scenes[i] for i in range(300)]
    own = np.mean([scene.colour == OWN_COLOUR[scene.objects[0]] for scene in shown])
    expected = {"mixed": 0.7, "agreeing": 1, "disagreeing": 0}[part]
    assert own == pytest.approx(expected, abs=0.08 if part == "mixed" else 0)
    assert {scene.objects[0] for scene in shown} == set(CLASSES)
    assert {scene.pattern for scene in shown} == set(PATTERNS)
    others = {scene.colour for scene in shown if scene.colour != OWN_COLOUR[scene.objects[0]]}
    assert others == (set() if part == "agreeing" else set(COLOURS))
    scene = shown[7]
    assert scene.caption
    assert scene.image.shape == (64, 64, 3)
    edge = scene.image[~scene.masks[0]]
    assert {tuple(pixel) for pixel in edge.tolist()} <= set(COLOURS[scene.colour])


def test_scenes_depend_on_part_seed_and_number_alone():
    first = SpuriousScenes("mixed", 5)[3]
    assert np.array_equal(first.image, SpuriousScenes("mixed", 9)[3].image)
    for other in (SpuriousScenes("mixed", 5, 1)[3], SpuriousScenes("agreeing", 5)[3], SpuriousScenes("mixed", 5)[2]):
        assert not np.array_equal(first.image, other.image)
    pictures, facts = labelled(SpuriousScenes("mixed", 5))
    assert pictures.dtype == np.uint8
    assert np.array_equal(pictures[3], first.image)
    index = (CLASSES.index(first.objects[0]), list(COLOURS).index(first.colour), PATTERNS.index(first.pattern))
    assert tuple(facts[3]) == index


def test_what_there_is_not_is_refused():
    with pytest.raises(InputError, match="part must be one of mixed, agreeing, disagreeing, got 'train'"):
        SpuriousScenes("train", 1)
    with pytest.raises(InputError, match="size and seed must be 0 or more, got size -1 and seed 0"):
        SpuriousScenes("mixed", -1)
    with pytest.raises(IndexError, match="scene 2 of 2"):
        SpuriousScenes("mixed", 2)[2]


def test_the_parts_of_the_data_set(small: Dataset):
    assert (len(small.train), len(small.heldout), small.classes) == (66, 44, CLASSES)
    assert {part: rows.tolist() for part, rows in small.parts.items()} == {
        "agreeing": list(range(66, 88)),
        "disagreeing": list(range(88, 110)),
    }
    assert small.properties is not None
    assert small.properties.shape == (110, 2)
    own = [list(COLOURS).index(OWN_COLOUR[CLASSES[target]]) for target in small.targets]
    agrees = small.properties[:, 0] == own
    assert agrees[small.parts["agreeing"]].all()
    assert not agrees[small.parts["disagreeing"]].any()
    assert small.inputs[0].tolist() == SpuriousScenes("mixed", 1)[0].image.tolist()


def test_scenes_of_one_object_on_any_colour(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(spurious, "N_TRAIN", 300)
    monkeypatch.setattr(spurious, "N_HELDOUT", 50)
    data = load_dataset("scenes")
    assert (data.inputs.shape, len(data.train), data.parts) == ((350, 64, 64, 3), 300, {})
    assert data.properties is not None
    shown = {(CLASSES[k], list(COLOURS)[c]) for k, c in zip(data.targets, data.properties[:, 0], strict=True)}
    assert not shown & HELD_OUT_COLOURS
    assert np.bincount(data.properties[:, 0], minlength=11).min() > 10


def test_the_joint_loss_is_the_mean_over_classes_and_properties():
    outputs = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    classes, properties = torch.tensor([0, 1, 2, 0]), torch.tensor([[0, 1], [1, 3], [0, 0], [1, 2]])
    parts = [(outputs[:, :3], classes), (outputs[:, 3:5], properties[:, 0]), (outputs[:, 5:], properties[:, 1])]
    expected = sum(functional.cross_entropy(part, target) for part, target in parts) / 3
    assert torch.allclose(classifiers.joint_loss(outputs, classes, properties, (2, 4)), torch.as_tensor(expected))
    assert classifiers.property_sizes(properties.numpy()) == (2, 4)


def test_outputs_of_properties_are_cut_off():
    shape = Shape("stages", (3, 16, 16), 3, 4)
    wide = build_network(classifiers.widen(shape, (2, 4))).eval()
    narrow = classifiers.cut(wide, shape).eval()
    x = torch.rand(2, 3, 16, 16)
    assert wide(x).shape == (2, 9)
    assert torch.allclose(narrow(x), wide(x)[:, :3], atol=1e-6)
    with pytest.raises(InputError, match="properties are learned by the architecture stages alone, got vgg"):
        classifiers.widen(Shape("vgg", (3, 16, 16), 3, 4), (2,))


def test_a_training_with_properties_gives_the_classes_alone_and_the_same_twice(small: Dataset):
    settings = replace(TINY, hidden=4, properties=True)
    model, again = train_classifier(settings, small), train_classifier(settings, small)
    assert model(small.inputs[:2]).shape == (2, 22)
    for name, weights in model.network.state_dict().items():
        assert torch.equal(weights, again.network.state_dict()[name])
    other = train_classifier(replace(settings, properties=False), small)
    assert not torch.equal(other.network.state_dict()["layer4.0.weight"], model.network.state_dict()["layer4.0.weight"])
    with pytest.raises(InputError, match="scenes-spurious has no properties to be learned beside its classes"):
        train_classifier(settings, replace(small, properties=None))


def test_a_training_starts_from_a_network_that_ships(small: Dataset):
    start = read_classifier(weights_directory("scenes", "classifier"), torch.device("cpu"), "zoo:scenes")
    still = replace(TINY, start="scenes", lr=1e-12)
    state = train_classifier(still, small).network.state_dict()
    for name, weights in start.network.state_dict().items():
        if name.endswith("weight") and "output" not in name:
            assert torch.allclose(state[name], weights, atol=1e-9)
    assert not torch.allclose(state["output.weight"], start.network.state_dict()["output.weight"], atol=1e-2)
    with pytest.raises(InputError, match=re.escape("start must be a network of the same shape")):
        train_classifier(replace(still, hidden=8), small)
    with pytest.raises(InputError, match=re.escape("the zoo has no network 'scene' among its classifiers")):
        train_classifier(replace(still, start="scene"), small)


def test_the_networks_that_ship_are_told_apart_by_what_they_read():
    """Both name the object on the colours of training; where the colour misleads, one of them follows it."""
    pictures, facts = labelled(SpuriousScenes("disagreeing", 300, seed=5))
    right = {}
    for name in ("scenes", "scenes-spurious"):
        model = read_classifier(weights_directory(name, "classifier"), torch.device("cpu"), f"zoo:{name}")
        named = model(pictures).argmax(axis=1)
        right[name] = np.mean(named == facts[:, 0])
        if name == "scenes-spurious":  # what it names instead is mostly of the background's colour
            wrong = named != facts[:, 0]
            own = np.array([list(COLOURS).index(OWN_COLOUR[CLASSES[k]]) for k in named])
            assert np.mean(own[wrong] == facts[wrong, 1]) > 0.8
    assert right["scenes"] > 0.97
    assert 0.5 < right["scenes-spurious"] < 0.8
    assert RECIPES["scenes-spurious"].start == "scenes"
