"""Registration: options, where exemplars come from, and that a version holds all that it needs and no byte else."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

import colours
from conceptry.models.errors import InputError, IntegrityError, VocabularyWarning
from conceptry.models.manifest import read_json
from conceptry.models.milan.describer.describer import Describer
from conceptry.models.milan.exemplars.compute import compute_exemplars
from conceptry.models.milan.exemplars.records import LayerExemplars, write_layer
from conceptry.models.milan.exemplars.sources import open_source, source_of
from conceptry.models.milan.exemplars.unit_store import NetworkUnits, write_units
from conceptry.models.milan.method import METHOD, build
from conceptry.models.milan.model import Milan, read_package
from conceptry.models.milan.network import (
    compute_network,
    load_network,
    prepared_network,
    read_network,
)
from conceptry.models.milan.package import NETWORK, out_of_its_world, preparation_of, units_param
from conceptry.models.milan.settings import DecodingSettings, ExemplarSettings, ExemplarSource, MilanOptions
from conceptry.registry import load, register

CPU = torch.device("cpu")
COMPUTED = {"model": "zoo:scenes", "size": 40, "k": 3, "quantile": 0.95}


@pytest.fixture(scope="module")
def describer(colour_describer: Path) -> str:
    return f"describer:{colour_describer}"


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with exemplars of zoo:scenes, as the command `exemplars` writes them."""
    folder = tmp_path_factory.mktemp("results")
    model, data = load_network("zoo:scenes", "cpu"), open_source("zoo:emoji-scenes", 40)
    settings = ExemplarSettings(k=3, quantile=0.95)
    compute_exemplars(model, data, ["layer1", "layer3"], folder, settings, name="zoo:scenes")
    return folder


def made(options: dict[str, Any], directory: Path) -> Any:
    directory.mkdir()
    return build(METHOD.options(**options), directory)


def test_a_version_says_what_it_consists_of(milan_version, milan_options) -> None:
    params = milan_version.params
    assert list(params)[:4] == ["model", "describer", "strategy", "temperature"]
    assert (params["model"], params["data"], params["k"]) == ("palette", "squares", "4")
    assert (params["layers"], params["clip_encoder"]) == ("7,first", milan_options["clip_encoder"])
    assert json.loads(params["units"]) == {"7": [[2, 2], [5, 5], [11, 11]], "first": [[0, 3]]}
    assert "describer_sha256" in milan_version.lineage
    assert "explained_sha256" not in milan_version.lineage  # nobody said which network it is
    stored = milan_version.recorded.files.keys()
    assert {"units/units.safetensors", "describer/words.txt", "describer/encoder/encoder.safetensors"} <= stored
    assert not any(name.endswith((".pkl", ".pt", ".npy")) for name in stored)


def test_the_same_options_are_not_registered_twice(milan_version, milan_options) -> None:
    again = register("milan", milan_options, name="tiny-milan")
    assert (again.created, again.version.version) == (False, milan_version.version)
    assert "1 of 7 units never rise above their level" in again.notes[0]
    assert register("milan", milan_options | {"temperature": 0.3}, name="tiny-milan").created


@pytest.mark.usefixtures("store")
def test_a_changed_byte_is_named_when_the_version_is_loaded(milan_options) -> None:
    version = register("milan", milan_options, name="tampered-milan").version
    location = MlflowClient().get_logged_model(version.model_id).artifact_location.removeprefix("file://")
    for name in ("units/units.safetensors", "units/units.json", "config.json", "describer/words.txt"):
        path = Path(location) / "artifacts" / "package" / name
        good = path.read_bytes()
        path.write_bytes(good[:-2] + bytes([good[-2] ^ 1]) + good[-1:])
        with pytest.raises(IntegrityError, match=f"^{name}: does not have the SHA-256"):
            load(version.uri)
        path.write_bytes(good)
    extra = Path(location) / "artifacts" / "package" / "units" / "more.safetensors"
    extra.write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"^units/more\.safetensors: not part of the package"):
        load(version.uri)
    extra.unlink()
    assert load(version.uri)


def test_no_pickle_in_a_version(milan_version, tmp_path: Path) -> None:
    files = Path(download_artifacts(milan_version.uri, dst_path=str(tmp_path / "fetched"))).rglob("*")
    suffixes = {path.suffix for path in files if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".txt", ".py", ".yaml", ".yml", "", ".md", ".gz"}


def test_exemplars_are_computed_or_read(describer, computed: Path, tmp_path: Path) -> None:
    one = made({"describer": describer, "layers": "layer1, layer3", **COMPUTED}, tmp_path / "computed")
    other = made({"describer": describer, "exemplars": str(computed)}, tmp_path / "read")
    assert one.params == other.params
    assert one.tags == other.tags
    assert one.tags["explained_model"] == "zoo:scenes"
    assert (one.params["model"], one.params["size"], one.params["k"], one.params["quantile"]) == (
        *("zoo:scenes", 40, 3, 0.95),
    )
    for name in ("units/units.safetensors", "units/units.json", "config.json", "describer/describer.json"):
        assert (tmp_path / "computed" / name).read_bytes() == (tmp_path / "read" / name).read_bytes()
    some = made({"describer": describer, "exemplars": str(computed), "layers": "layer3"}, tmp_path / "some")
    assert some.params["layers"] == "layer3"


def test_layers_by_default_are_the_stages(tmp_path: Path) -> None:
    source = ExemplarSource(**COMPUTED, image_size=8)
    network, data = load_network("zoo:scenes", "cpu"), source_of("zoo:emoji-scenes", 40)
    found = compute_network(network, None, data, (), source.settings(), directory=tmp_path)
    assert list(found.layers) == ["layer1", "layer2", "layer3", "layer4"]
    assert found.layers["layer1"].images.shape[1:] == (3, 3, 8, 8)


HALF = (0.5, 0.5, 0.5)


def test_a_checkpoint_is_asked_for_its_preprocessing(checkpoint: Path) -> None:
    name = f"torchvision:squeezenet1_1@{checkpoint}"
    sentence = r"mine\.pth: the file says nothing of preprocessing: .*; give input_size, mean and std as they were in"
    for asks in (lambda: Milan(name, data="zoo:emoji-scenes"), lambda: load_network(name, "cpu", mean=HALF, std=HALF)):
        with pytest.raises(InputError, match=sentence):
            asks()
    said: dict[str, Any] = {"input_size": 48, "mean": HALF, "std": HALF}
    with pytest.raises(InputError, match="are of a network that is given by name"):
        Milan(torch.nn.Conv2d(3, 2, 1), data=np.zeros((2, 8, 8, 3), np.uint8), layers=[""], **said)
    with pytest.raises(InputError, match="mean is of exemplars to compute, and there holds them; leave it out"):
        MilanOptions(exemplars="there", mean=".5,.5,.5", std=".5,.5,.5")
    with pytest.raises(InputError, match="input_size must be SIDE or HEIGHTxWIDTH, such as 224 or 224x192, got 'big'"):
        MilanOptions(input_size="big").preparation()
    with pytest.raises(InputError, match=r"zoo:scenes: brings its own std; leave it out"):
        load_network("zoo:scenes", "cpu", mean=HALF, std=HALF)


def test_units_see_what_the_own_transform_of_a_network_gives(checkpoint: Path, describer: str, tmp_path: Path) -> None:
    from PIL import Image
    from torchvision import transforms
    from torchvision.models import squeezenet1_1

    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((48, 48), (48, 60), (60, 96), (99, 48))]
    for i, image in enumerate(images):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
    (tmp_path / "names.json").write_text('["cat", "dog", "owl"]')
    said: dict[str, Any] = {
        "input_size": "48",
        "mean": ".5,.5,.5",
        "std": ".5,.5,.5",
        "classes": str(tmp_path / "names.json"),
    }
    options = MilanOptions(model=f"torchvision:squeezenet1_1@{checkpoint}", **said)
    network, data = prepared_network(str(options.model), "cpu", options.preparation()), f"folder:{tmp_path / 'images'}"
    assert network.classes == ("cat", "dog", "owl")
    settings, folder = ExemplarSettings(k=4), tmp_path / "results"
    found = compute_exemplars(network, open_source(data), ["features.3"], folder, settings)["features.3"]

    theirs = squeezenet1_1(num_classes=3).eval()
    theirs.load_state_dict(torch.load(checkpoint, weights_only=True))
    tensor, half = transforms.ToTensor(), transforms.Normalize(HALF, HALF)
    own = transforms.Compose([tensor, transforms.Resize(48, antialias=True), transforms.CenterCrop(48), half])
    with torch.no_grad():
        strongest = [theirs.features[:4](own(image)[None])[0].amax((1, 2)).numpy() for image in images]
    ids, activations = found.ids, found.activations
    assert activations is not None
    np.testing.assert_allclose(activations, np.take_along_axis(np.array(strongest).T, ids, 1), rtol=1e-4, atol=1e-4)

    kept = {"size": [48, 48], "mean": [0.5] * 3, "std": [0.5] * 3}
    record = json.loads((folder / "exemplars.json").read_text())
    assert (record["preparation"], record["classes"]) == (kept, ["cat", "dog", "owl"])
    other = load_network(str(options.model), "cpu", preprocessing="imagenet")
    with pytest.raises(InputError, match="holds exemplars of a run with other preprocessing of the network"):
        compute_exemplars(other, open_source(data), ["features.3"], folder, settings)
    package = made({"describer": describer, "exemplars": str(folder), "layers": "features.3"}, tmp_path / "package")
    again = preparation_of({n: str(v) for n, v in package.params.items()}, read_json(tmp_path / "package" / NETWORK))
    assert again.to_record() == {"preparation": kept, "classes": ["cat", "dog", "owl"]}


def test_exemplars_of_a_network_that_no_name_leads_to(computed: Path, describer, tmp_path: Path) -> None:
    import shutil

    mine = shutil.copytree(computed, tmp_path / "mine")
    record = json.loads((mine / "exemplars.json").read_text())
    for change, expected in (
        ({"model": "my own"}, ("my own", record["model_sha256"])),
        ({"model_sha256": "0" * 64}, ("zoo:scenes", "0" * 64)),
    ):
        (mine / "exemplars.json").write_text(json.dumps(record | change))
        found = read_network(mine)
        assert (found.lineage["explained_model"], found.lineage["explained_sha256"]) == expected
        assert found.model == expected[0]
    with pytest.raises(InputError, match="holds exemplars of zoo:scenes, whose weights are not those of zoo:scenes"):
        read_network(mine, "zoo:scenes")
    for name in ("palette/squares", "unnamed"):  # as the original wrote it, without a record
        folder = tmp_path / name
        write_layer(folder, colours.exemplars("first"))
        found = read_network(folder)
        assert (found.model, found.data) == (folder.parent.name, folder.name)
        assert found.lineage == {}


def test_a_version_needs_no_zoo(tmp_path: Path, colour_exemplars: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder of a describer that names zoo:emoji-clip is in the package as well."""
    from conceptry.models.milan.describer.decoder import Decoder
    from conceptry.models.milan.describer.features import load_feature_encoder
    from conceptry.models.milan.describer.language_model import LanguageModel
    from conceptry.models.milan.describer.vocabulary import Vocabulary

    torch.manual_seed(0)
    encoder, vocabulary = load_feature_encoder("zoo:emoji-clip", "cpu"), Vocabulary(["a", "dog", "red"])
    decoder = Decoder(len(vocabulary), encoder.n_features, 8, 4)
    Describer(encoder, decoder, LanguageModel(len(vocabulary), 8, 4), vocabulary).save(tmp_path / "describer")
    assert not (tmp_path / "describer" / "encoder").exists()
    options = {"describer": f"describer:{tmp_path / 'describer'}", "exemplars": str(colour_exemplars)}
    for also in (
        {},
        {"clip_encoder": "zoo:emoji-clip", "clip": True},
        {"describer": "clip-dissect", "data": "zoo:digits"},
    ):
        made(options | also, package := tmp_path / "-".join(["package", *also]))
        with monkeypatch.context() as patched:
            patched.setattr("conceptry.models.shipped._WEIGHTS", tmp_path / "nowhere")
            registered = read_package(package, CPU)
        unit = registered.units.unit("7", 5)
        settings = registered.override({"beam_size": 8, "length": 5} if also.get("describer") is None else {})
        (said,) = registered.describer.describe(unit.images[None], unit.masks[None], settings)
        assert np.isfinite([said.score, said.pmi]).all()


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ({}, "strategy temperature beam_size length alternatives"),
        ({"strategy": "greedy"}, "strategy length alternatives"),
        ({"strategy": "sample"}, "strategy length alternatives seed"),
        ({"strategy": "beam"}, "strategy beam_size length alternatives"),
        ({"clip": True}, "strategy beam_size length alternatives clip clip_weight clip_temperature"),
        ({"describer": "clip-dissect", "clip_encoder": "zoo:emoji-clip", "data": "zoo:emoji-scenes"}, "alternatives"),
    ],
)
def test_a_version_lists_the_settings_that_it_uses(milan_options, options: dict, listed: str, tmp_path: Path) -> None:
    params = made(milan_options | options, tmp_path / "package").params
    assert [name for name in params if name in DecodingSettings.__dataclass_fields__] == listed.split()


def test_single_words(colour_exemplars: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("red\ngreen\n\n blue \n")
    options = {"describer": "clip-dissect", "exemplars": str(colour_exemplars), "words": str(words)}
    with pytest.warns(VocabularyWarning, match=r"words\.txt: dropped 1 blank and 0 repeated lines"):
        package = made(options | {"data": "zoo:emoji-scenes", "alternatives": 1}, tmp_path / "package")
    assert package.params["describer"] == "clip-dissect"
    assert not {"strategy", "temperature", "clip"} & set(package.params)
    registered = read_package(tmp_path / "package", CPU)
    units = [registered.units.unit("first", unit) for unit in range(3)]
    images, masks = (np.stack([getattr(unit, name) for unit in units]) for name in ("images", "masks"))
    said = registered.describer.describe(images, masks, registered.settings)
    assert {description.text for description in said} <= {"red", "green", "blue"}
    assert all(len(description.alternatives) == 1 for description in said)
    assert (
        len(registered.describer.describe(images, masks, registered.override({"alternatives": 2}))[0].alternatives) == 2
    )
    for values in ({"strategy": "greedy"}, {"clip": True}, {"seed": 1}):
        with pytest.raises(InputError, match=f"{next(iter(values))} is of describers that search for words one after"):
            registered.override(values)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"describer": "zoo:emoji-miln"}, "did you mean|no network 'emoji-miln'"),
        ({"describer": "describer:/no/such"}, "/no/such: holds no describer.json"),
        ({"describer": "other"}, "unknown describer 'other'"),
        ({"strategy": "guess"}, "strategy must be one of greedy, sample"),
        ({"temperature": -1.0}, "temperature must be from 0 to 100, got -1.0"),
        ({"beam_size": 0}, "beam_size must be from 1"),
        ({"k": 3}, "k is of exemplars to compute, and .* holds them; leave it out"),
        ({"size": 3}, "size is of exemplars to compute"),
        ({"layers": "first,first"}, "layers must differ from one another, got first,first"),
        ({"layers": "frist"}, "holds no layer 'frist'; expected one such as 7, first"),
        ({"model": "zoo:wine"}, "zoo:wine: takes table"),
        ({"model": "zoo:scenes"}, "zoo:scenes: has no layer '7'"),
        ({"exemplars": "/no/such"}, "/no/such: no such folder; expected folders of layers, each with masks.npy"),
        ({"exemplars": None, "k": 0}, "k, the pictures of each unit, must be a whole number of at least 1, got 0"),
        ({"exemplars": None, "k": 50, "size": 9}, "k is 50, but zoo:emoji-scenes holds 9 pictures"),
        ({"exemplars": None, "quantile": 1.0}, "quantile must be between 0 and 1"),
        ({"exemplars": None, "layers": "layer9"}, "has no layer 'layer9'; expected one such as layer"),
        ({"exemplars": None, "data": "zoo:nothing"}, "nothing"),
        ({"exemplars": None, "data": "folder:/no/such"}, "/no/such: no such folder"),
        ({"words": "x.txt"}, "words are those of clip-dissect, and describer is describer:"),
        ({"clip_encoder": "none", "clip": True}, "clip needs a dual encoder; name it as clip_encoder"),
        ({"clip_encoder": None, "clip": True}, "clip needs a dual encoder; name it as clip_encoder"),
        ({"clip_encoder": "zoo:nothing"}, "the zoo has no network 'nothing' among its encoders"),
        ({"describer": "clip-dissect", "clip_encoder": "none"}, "clip-dissect needs a dual encoder"),
        ({"describer": "clip-dissect", "strategy": "greedy"}, "strategy is of describers that search for words"),
        ({"describer": "clip-dissect"}, "clip-dissect asks how frequent words are in the data of the exemplars: unkno"),
        (
            {"describer": "clip-dissect", "data": "zoo:digits", "words": "/no/such"},
            "/no/such: cannot be read: No such file",
        ),
        ({"clip": True, "strategy": "beam"}, "clip ranks the candidates of mi and rerank, not of beam"),
        ({"clip": "yes"}, "clip must be of type bool, got 'yes'"),
        ({"modle": "zoo:scenes"}, "unknown option 'modle' of milan; expected one of model"),
    ],
)
@pytest.mark.usefixtures("store")
def test_bad_options_store_nothing(milan_options, options: dict, sentence: str) -> None:
    options = {key: value for key, value in (milan_options | options).items() if value is not None}
    if options.get("describer") == "clip-dissect" and options.get("clip_encoder") != "none":
        del options["clip_encoder"]
    with pytest.raises(InputError, match=sentence):
        register("milan", options, name="never-milan")
    assert not MlflowClient().search_model_versions("name='never-milan'")


def test_a_folder_above_the_exemplars_is_told_where_they_are(colour_exemplars: Path) -> None:
    for folder in (colour_exemplars.parent, colour_exemplars.parent.parent):
        with pytest.raises(InputError, match=rf"{folder}: holds no exemplars; did you mean {colour_exemplars}\?$"):
            read_network(folder)


def test_numbers_of_units_as_ranges(tmp_path: Path) -> None:
    def units_of(numbers: list[int]) -> NetworkUnits:
        count = len(numbers)
        images, masks = np.zeros((count, 1, 3, 2, 2), np.uint8), np.zeros((count, 1, 1, 2, 2), np.uint8)
        write_units({"a": LayerExemplars("a", np.array(numbers), images, masks, np.zeros((count, 1), int))}, tmp_path)
        return NetworkUnits(tmp_path)

    for numbers, ranges in (([0], [[0, 0]]), ([3, 1, 2, 9, 8], [[1, 3], [8, 9]]), (list(range(2048)), [[0, 2047]])):
        assert json.loads(units_param(units_of(numbers))) == {"a": ranges}
    with pytest.raises(InputError, match=r"the numbers of 1000 units of 1 layers take .* characters"):
        units_param(units_of(list(range(0, 2000, 2))))


def test_defaults_are_those_of_the_paper() -> None:
    options = MilanOptions()
    assert (options.strategy, options.temperature, options.beam_size, options.length) == ("rerank", 0.2, 50, 15)
    assert (ExemplarSource().settings().k, ExemplarSource().settings().quantile) == (15, 0.99)
    assert options.encoder_name == "zoo:emoji-clip"
    assert MilanOptions(describer="describer:x").encoder_name is None


def test_the_small_describer_is_told_from_one_of_photographs() -> None:
    assert out_of_its_world("zoo:emoji-milan", "zoo:emoji-scenes") is None
    assert out_of_its_world("describer:mine", "folder:photos") is None
    assert "what it says of folder:photos is no finding" in str(out_of_its_world("zoo:emoji-milan", "folder:photos"))
