"""The benchmark of MILAN at small sizes: its loops are right, its floor runs what it says, and it has all its parts."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conceptry.evaluation.benchmarks.measure import Record, Target
from conceptry.evaluation.benchmarks.milan import describe, exemplars, table
from conceptry.models.errors import InputError
from conceptry.models.milan.describer.decoder import Decoder
from conceptry.models.milan.describer.describer import Describer, load_describer
from conceptry.models.milan.describer.features import load_feature_encoder
from conceptry.models.milan.describer.language_model import LanguageModel
from conceptry.models.milan.describer.vocabulary import Vocabulary
from conceptry.models.milan.settings import DecodingSettings, ExemplarSettings


@pytest.fixture(scope="module")
def describer() -> Describer:
    """A describer of 40 words with weights from a seed, large enough for its hypotheses to differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder, model = Decoder(44, 976, 32, 16), LanguageModel(44, 32, 16)
    for module in (decoder, model):
        module.output.weight.data *= 8
        module.embedding.weight.data *= 3
    vocabulary = Vocabulary([f"w{i}" for i in range(40)])
    return Describer(load_feature_encoder("zoo:emoji-clip", "cpu"), decoder, model, vocabulary)


@pytest.mark.parametrize("one_by_one", [False, True])
def test_the_loops_find_what_ours_finds(describer: Describer, one_by_one: bool) -> None:
    features = torch.randn(3, 4, 976, generator=torch.Generator().manual_seed(1))
    settings = DecodingSettings(beam_size=12, length=6)
    assert describe.agreement(describer, features, settings, one_by_one) == 1
    found = [describe.best_of_unit(describer, unit, settings, one_by_one) for unit in features]
    assert len({loop.tokens for loop in found}) > 1


def test_another_description_is_no_agreement(describer: Describer) -> None:
    features = torch.randn(2, 4, 976, generator=torch.Generator().manual_seed(1))
    ours = describer.describe_features(features, DecodingSettings(beam_size=12, length=6))
    loop = describe.best_of_unit(describer, features[0], DecodingSettings(beam_size=12, length=2))
    assert describer.vocabulary.detokenize(loop.tokens) != ours[0].text


def test_descriptions_are_counted_by_unit(describer: Describer) -> None:
    features = torch.randn(5, 3, 976, generator=torch.Generator().manual_seed(2))
    settings = DecodingSettings(beam_size=4, length=4)
    records, targets = describe.descriptions(describer, features, 1, n_units=4, n_literal=4, settings=settings)
    assert [r.extra["units"] for r in records] == [4, 4, 1]
    assert records[0].extra[describe.PER_SECOND] == pytest.approx(1 / records[0].seconds)
    assert [t.limit for t in targets] == [10, 3, 1]
    assert targets[-1].met


class Counting(nn.Module):
    """Counts the pictures that it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def from_pixels(self, x: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.rows.append(len(x))
        return x


def test_the_floor_passes_all_pictures_and_then_the_chosen() -> None:
    network = Counting()
    exemplars.passes(network, torch.zeros(10, 3, 4, 4), np.array([1, 5, 6]), 4)
    assert network.rows == [4, 4, 2, 3]


def test_noise_is_the_same_each_time_and_each_its_own() -> None:
    noise = exemplars.Noise(5)
    first, second = noise.read_images([0, 3])
    assert first.shape == (64, 64, 3)
    assert not np.array_equal(first, second)
    assert np.array_equal(second, noise.read_images([3])[0])


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    name = exemplars._THRESHOLD
    for before in (None, "7"):
        if before is not None:
            monkeypatch.setenv(name, before)
        with exemplars._holes_given_back():
            assert os.environ[name] == "65536"
        assert os.environ.get(name) == before


@pytest.mark.parametrize("files", [None, (64, 64)])
def test_exemplars_beside_their_passes(tmp_path: Path, files: tuple[int, int] | None) -> None:
    settings = ExemplarSettings(k=2, batch_size=16)
    network = exemplars.Network("scenes", "zoo:scenes", 24, settings, files)
    records, (target,) = exemplars.exemplars(network, 1, tmp_path)
    assert target.limit == 1.2
    assert target.value is not None
    assert [r.implementation for r in records] == [exemplars.BARE, exemplars.OURS]
    assert all(r.case.startswith("exemplars, scenes, 320 units, 24 and ") for r in records)
    assert records[0].extra[exemplars.TIMES] == 1


def test_an_epoch_from_the_cache_and_from_pictures_is_measured() -> None:
    records, (target,) = table.training(load_describer("zoo:emoji-milan", "cpu"), 6, 1)
    turns = [table.CACHED, table.IMAGES, table.FILLING]
    assert [r.implementation for r in records] == 2 * turns
    assert (target.limit, target.direction) == (5, "min")
    assert target.value == records[1].extra[table.TIMES]


def test_the_benchmark_has_all_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    def part(name: str):
        return lambda *_: ([Record(name, "conceptry", 1.0)], [Target(name, 1.0, 1.0, "min")])

    monkeypatch.setattr(table, "load_describer", lambda *_: _Features())
    monkeypatch.setattr(table, "descriptions", part("descriptions"))
    monkeypatch.setattr(exemplars, "exemplars", part("exemplars"))
    monkeypatch.setattr(exemplars, "memory", part("memory"))
    for name in ("training", "quality"):
        monkeypatch.setattr(table, name, part(name))
    said: list[str] = []
    missing = dataclasses.replace(table.IMAGENET, title="no such network")
    monkeypatch.setattr(exemplars, "IMAGENET_THERE", False)
    result = table.run(quick=True, progress=said.append, networks=(*table.NETWORKS, missing))
    assert [r.case for r in result.records] == [
        "exemplars", "exemplars", "memory", "descriptions", "training", "quality",
    ]  # fmt: skip
    assert len(said) == 6
    assert any("no such network is not installed" in note for note in result.notes)
    assert len(json.loads(result.to_json())["targets"]) == 6


class _Features:
    def features(self, images: np.ndarray, masks: np.ndarray) -> None:
        assert len(images) == len(masks) == table.QUICK.units


def test_a_dictionary_is_refused() -> None:
    with pytest.raises(InputError, match="--dictionary: the benchmark of milan draws its own scenes"):
        table.run(dictionary=Path("words.npz"))
