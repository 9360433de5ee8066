"""Released files in the layout of the original, with foreign and hostile objects in them, to folders of our own."""

import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conceptry.models.errors import InputError
from conceptry.models.milan.describer.describer import read_describer
from conceptry.models.milan.released import Foreign, convert_describer, read_released

H, E, F, WORDS = 24, 12, 1024, ["dogs", "red", "on", "grass", "."]
V = len(WORDS) + 4


class Hostile:
    """Runs a command where it is unpickled in the usual way."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        import os

        return (os.system, (f"touch {self.marker}",))


def released_state(seed=0):
    """The parameters by the names of the released files; the trunk is a ResNet-18 without its classifier."""
    torch.manual_seed(seed)
    import torchvision

    modules = {
        "init_h.0": nn.Linear(F, H),
        "init_c.0": nn.Linear(F, H),
        "embedding": nn.Embedding(V, E),
        "attend.query_to_hidden": nn.Linear(H, H),
        "attend.key_to_hidden": nn.Linear(F, H),
        "attend.output.0": nn.Linear(H, 1),
        "feature_gate.0": nn.Linear(H, F),
        "lstm": nn.LSTMCell(E + F, H),
        "output.1": nn.Linear(H, V),
        "lm.embedding": nn.Embedding(V, E, padding_idx=V - 2),
        "lm.lstm": nn.LSTM(E, H, 2, batch_first=True),
        "lm.output.0": nn.Linear(H, V),
        "encoder.encoder.model": torchvision.models.resnet18(weights=None),
    }
    state = OrderedDict((f"{name}.{key}", v) for name, part in modules.items() for key, v in part.state_dict().items())
    state["encoder.mean"], state["encoder.std"] = torch.zeros(1, 3, 1, 1), torch.ones(1, 3, 1, 1)
    return state


@pytest.fixture(scope="module")
def state():
    return released_state()


@pytest.fixture(scope="module")
def light(state):
    """Without the trunk, which is read last and has 45 MB."""
    return changed(state, ["encoder."])


@pytest.fixture
def spacy(monkeypatch):
    """A library that is there when the file is written and not when it is read."""
    module = types.ModuleType("spacy_like")

    class English:
        def __init__(self, vocab):
            self.vocab = vocab

        def __setstate__(self, state):
            raise AssertionError("code of another library ran")

    English.__module__, English.__qualname__ = "spacy_like", "English"
    module.English = English
    monkeypatch.setitem(sys.modules, "spacy_like", module)
    return English


def write(path, state, monkeypatch, spacy, hostile=None, **changes):
    indexer = {
        "properties": {
            "vocab": {"properties": {"tokens": tuple(WORDS)}, "children": {}},
            "tokenize": {"properties": {"nlp": (spacy({"a": {1, 2}}), b"\x00payload"), "lowercase": True}},
        },
        "children": {},
    }
    properties = {
        "indexer": indexer,
        "encoder": {"properties": {"config": "resnet18", "pretrained": True}, "children": {}},
        "lm": {"properties": {"indexer": indexer, "hidden_size": H}, "children": {}},
        "length": 15,
        "device": torch.device("cpu"),
        "hostile": hostile,
    }
    content = {"properties": properties | changes, "children": {"encoder": "PyramidConvEncoder"}, "state_dict": state}
    torch.save(content, path)
    monkeypatch.delitem(sys.modules, "spacy_like")
    return path


def literal_log_p(state, features, captions):
    """Teacher-forced log-probabilities as the released model computes them, a unit and a token at a time, float64."""
    w = {key: value.double() for key, value in state.items()}

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    rows = []
    for f, caption in zip(features.double(), captions.tolist(), strict=True):
        h, c = torch.tanh(linear(f.mean(0), "init_h.0")), torch.tanh(linear(f.mean(0), "init_c.0"))
        steps = []
        for token in [V - 4, *caption[:-1]]:
            e = torch.tanh(linear(h, "attend.query_to_hidden") + linear(f, "attend.key_to_hidden"))
            a = torch.softmax(linear(e, "attend.output.0")[:, 0], dim=0)
            z = torch.sigmoid(linear(h, "feature_gate.0")) * (a @ f)
            x = torch.cat([w["embedding.weight"][token], z])
            g = x @ w["lstm.weight_ih"].T + w["lstm.bias_ih"] + h @ w["lstm.weight_hh"].T + w["lstm.bias_hh"]
            i, forget, new, out = g.split(H)
            c = torch.sigmoid(forget) * c + torch.sigmoid(i) * torch.tanh(new)
            h = torch.sigmoid(out) * torch.tanh(c)
            steps.append(torch.log_softmax(linear(h, "output.1"), dim=0))
        rows.append(torch.stack(steps))
    return torch.stack(rows)


def test_a_released_file_becomes_a_describer_that_computes_the_same(tmp_path, state, monkeypatch, spacy):
    marker = tmp_path / "ran"
    path = write(tmp_path / "milan-toy.pth", state, monkeypatch, spacy, hostile=Hostile(marker))
    done = convert_describer(path, tmp_path / "toy")
    assert not marker.exists()
    assert done.foreign == ("__builtin__.set", "_codecs.encode", "posix.system", "spacy_like.English", "torch.device")
    describer = read_describer(tmp_path / "toy", "cpu")
    assert describer.vocabulary.words == tuple(WORDS)
    assert describer.encoder.n_features == F
    assert describer.provenance["converted_from"] == "milan-toy.pth"
    assert describer.provenance["left_out"] == list(done.foreign)
    suffixes = {file.suffix for file in (tmp_path / "toy").rglob("*") if file.is_file()}
    assert suffixes <= {".safetensors", ".json", ".txt"}

    torch.manual_seed(1)
    features, captions = torch.randn(3, 4, F), torch.randint(0, V, (3, 5))
    with torch.no_grad():
        log_p, _ = describer.decoder(features, captions)
    assert torch.allclose(log_p.double(), literal_log_p(state, features, captions), atol=1e-4)
    lm = nn.LSTM(E, H, 2, batch_first=True)
    lm.load_state_dict({k.removeprefix("lm.lstm."): v for k, v in state.items() if k.startswith("lm.lstm.")})
    inputs = state["lm.embedding.weight"][torch.cat([torch.full((3, 1), V - 4), captions[:, :-1]], dim=1)]
    scores = lm(inputs)[0] @ state["lm.output.0.weight"].T + state["lm.output.0.bias"]
    with torch.no_grad():
        assert torch.allclose(describer.language_model(captions), torch.log_softmax(scores, dim=-1), atol=1e-5)


def test_the_trunk_is_the_released_one(tmp_path, state, monkeypatch, spacy):
    import torchvision

    convert_describer(write(tmp_path / "a.pth", state, monkeypatch, spacy), tmp_path / "toy")
    network = torchvision.models.resnet18(weights=None).eval()
    prefix = "encoder.encoder.model."
    network.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    images = np.random.default_rng(0).integers(0, 256, (1, 1, 3, 224, 224)).astype(np.uint8)
    features = read_describer(tmp_path / "toy", "cpu").features(images, np.ones((1, 1, 1, 224, 224), np.uint8))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = (torch.from_numpy(images[0]) / 255 - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        first = network.conv1(x)
        last = network.maxpool(network.relu(network.bn1(first)))
        for part in (network.layer1, network.layer2, network.layer3, network.layer4):
            last = part(last)
    assert torch.allclose(features[0, 0, :64], first.mean(dim=(2, 3))[0], atol=1e-4)
    assert torch.allclose(features[0, 0, -512:], last.mean(dim=(2, 3))[0], atol=1e-3)


def changed(state, drop=(), **new):
    kept = OrderedDict((key, value) for key, value in state.items() if not key.startswith(tuple(drop) or ("\0",)))
    return OrderedDict(kept | {key.replace("__", "."): value for key, value in new.items()})


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"drop": ["lm."]}, "holds no language model"),
        ({"drop": ["embedding."]}, "expected a matrix for embedding.weight, got nothing"),
        ({"drop": ["lstm.bias_hh"]}, "decoder: the weights do not fit the network: the file lacks lstm.bias_hh"),
        ({"drop": ["-"]}, "does not hold its feature encoder .*; name one by --encoder"),
        ({"encoder__encoder__model__fc": torch.zeros(2)}, "its feature encoder: .* lacks"),
        ({"lstm__weight_ih": torch.zeros(4 * H, 7)}, r"lstm.weight_ih of shape \(96, 7\) instead of \(96, 1036\)"),
        ({"output__1__weight": torch.zeros(3, H)}, r"output.weight of shape \(3, 24\) instead of \(9, 24\)"),
        ({"embedding__weight": torch.zeros(4, E)}, "its decoder knows 4 tokens; expected 9, its words and 4 specials"),
        ({"lm__embedding__weight": torch.zeros(4, E)}, "its language model knows 4 tokens; expected 9"),
        ({"init_h__0__weight": torch.zeros(H, 9)}, r"initial_cell.weight of shape \(24, 1024\) instead of \(24, 9\)"),
        ({"lm__lstm__weight_ih_l2": torch.zeros(2, 2)}, "has more than 2 layers, as lstm.weight_ih_l2 says"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, light, monkeypatch, spacy, edit, message):
    path = write(tmp_path / "a.pth", changed(light, **edit), monkeypatch, spacy)
    with pytest.raises(InputError, match=message):
        convert_describer(path, tmp_path / "toy")
    assert not (tmp_path / "toy").exists()


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"indexer": None}, "holds no words; expected texts at properties.indexer.properties.vocab.properties.tokens"),
        ({"indexer": {"properties": {"vocab": {"properties": {"tokens": [1, 2]}}}}}, "holds no words"),
        ({"indexer": {"properties": {"vocab": {"properties": {"tokens": ["a", "a"]}}}}, "lm": None}, "is there twice"),
        ({"indexer": {"properties": {"vocab": {"properties": {"tokens": ["a"]}}}}}, "are not those of its decoder"),
        ({"encoder": {"properties": {"config": "a/b.py"}}}, "name one by --encoder"),
        ({"encoder": {"properties": {"config": "vgg11"}}}, "its feature encoder: unknown feature encoder"),
    ],
)
def test_properties_that_do_not_fit_are_refused(tmp_path, light, monkeypatch, spacy, properties, message):
    path = write(
        tmp_path / "a.pth", changed(light, encoder__encoder__model__fc=torch.zeros(2)), monkeypatch, spacy, **properties
    )
    with pytest.raises(InputError, match=message):
        convert_describer(path, tmp_path / "toy")


def test_another_encoder_may_be_named(tmp_path, light, monkeypatch, spacy):
    path = write(tmp_path / "a.pth", light, monkeypatch, spacy)
    with pytest.raises(InputError, match="reads 1,024 features, but zoo:emoji-clip gives 976"):
        convert_describer(path, tmp_path / "toy", "zoo:emoji-clip")


def test_the_command_says_what_was_written_and_left_out(tmp_path, state, monkeypatch, spacy):
    from click.testing import CliRunner

    from conceptry.evaluation.cli.train import convert

    path = write(tmp_path / "milan-toy.pth", state, monkeypatch, spacy)
    said = CliRunner().invoke(convert, ["milan", str(path), "--output", str(tmp_path / "toy")], catch_exceptions=False)
    assert said.exit_code == 0
    output = " ".join(said.output.split())
    assert "5 words, encoder torchvision:resnet18@milan-toy.safetensors (1,024 features)" in output
    assert "left out objects of __builtin__.set, _codecs.encode, spacy_like.English" in output


def test_an_existing_folder_is_not_written_to(tmp_path):
    with pytest.raises(InputError, match="exists already; name a new folder"):
        convert_describer(tmp_path / "a.pth", tmp_path)


class Reduced:
    """Pickles as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_no_function_that_a_file_names_is_called(tmp_path):
    import builtins
    import subprocess

    marker = tmp_path / "ran"
    command = f"open({str(marker)!r}, 'w')"
    calls = [
        Reduced(builtins.eval, command),
        Reduced(builtins.exec, command),
        Reduced(subprocess.Popen, ["touch", str(marker)]),
        Reduced(builtins.getattr, Path(marker), "touch"),
        Reduced(builtins.__import__, "antigravity"),
        Reduced(torch.load, str(marker)),
        Reduced(bytearray, 10**12),
    ]
    torch.save({"a": calls, "b": torch.arange(3)}, tmp_path / "a.pth")
    found = read_released(tmp_path / "a.pth")
    assert all(isinstance(item, Foreign) for item in found.content["a"])
    assert torch.equal(found.content["b"], torch.arange(3))
    assert not marker.exists()


def test_tensors_come_back_as_they_were(tmp_path):
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8)
    base = torch.arange(24).reshape(4, 6)
    tensors = {str(kind): base.to(kind) for kind in kinds} | {
        "bool": base > 3,
        "view": base.T[1:, ::2],
        "empty": base[:0],
        "scalar": torch.tensor(2.5),
        "parameter": nn.Parameter(torch.ones(2)),
    }
    torch.save(OrderedDict(tensors), tmp_path / "a.pth")
    found = read_released(tmp_path / "a.pth")
    assert found.foreign == ()
    for name, tensor in tensors.items():
        assert found.content[name].dtype == tensor.dtype
        assert torch.equal(found.content[name], tensor.detach())


def rewritten(path, compress=zipfile.ZIP_STORED, **replaced):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, data in content.items():
            key = name.rpartition("/")[2].replace(".", "_")
            archive.writestr(name, replaced.get(key, data))


def test_files_of_another_format(tmp_path):
    path = tmp_path / "a.pth"
    with pytest.raises(InputError, match=r"a.pth: no such file; expected released weights, such as milan-base.pth"):
        read_released(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(InputError, match=r"is no file of torch\.save, or is cut off"):
        read_released(path)
    torch.save({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"is no file of torch\.save, or is cut off"):
        read_released(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/readme", "")
    with pytest.raises(InputError, match=r"it holds no data.pkl"):
        read_released(path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="is no released describer; expected a mapping with properties and state_dict"):
        convert_describer(path, tmp_path / "toy")
    torch.save({"a": torch.ones(4)}, path)
    with zipfile.ZipFile(path) as archive:
        pickled = archive.read("a/data.pkl")
    for damage in (pickled[:20], pickled.replace(b"storage", b"storagf"), b"cos\nsystem\n(S'touch x'\ntR."):
        torch.save({"a": torch.ones(4)}, path)
        rewritten(path, data_pkl=damage)
        if damage.startswith(b"cos"):
            assert isinstance(read_released(path).content, Foreign)
            continue
        with pytest.raises(InputError, match="cannot be read, it is damaged or of another format"):
            read_released(path)
    torch.save({"a": torch.ones(4)}, path)
    rewritten(path, byteorder=b"big")
    with pytest.raises(InputError, match="written by a big-endian machine"):
        read_released(path)
    torch.save({"a": torch.ones(4)}, path)
    rewritten(path, compress=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"damaged or of another format \(ValueError\)"):
        read_released(path)
    torch.save({"a": torch.ones(4)}, path)
    rewritten(path, **{"0": b"\0" * 12})
    with pytest.raises(InputError, match=r"damaged or of another format \(ValueError\)"):
        read_released(path)
