"""What perturbations are evaluated on, and their judges, against literal restatements."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from conceptry.evaluation.isolation.client import Answer
from conceptry.evaluation.perturbation.data import load_cases, load_reference, read_table, table_cases
from conceptry.evaluation.perturbation.judges import Reference, judge, to_grey
from conceptry.evaluation.perturbation.presenter import check_request, explain_request
from conceptry.models.errors import InputError

DIGITS = {"model": "zoo:digits-16-robust"}


@pytest.fixture
def pictures(tmp_path, picture: Image.Image):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(3):
            picture.rotate(30 * number + len(label)).save(tmp_path / label / f"{number}.png")
    return tmp_path


def test_judges_restated() -> None:
    rng = np.random.default_rng(0)
    labels = tuple("ab" * 12)
    real = np.clip(rng.normal(0.5, 0.2, (24, 3, 4)) + np.array([k % 2 for k in range(24)])[:, None, None] * 0.2, 0, 1)
    probes, targets = rng.uniform(size=(7, 3, 4)), list("abbabab")
    judged = judge(probes, targets, Reference(real, labels))
    for row, (probe, target) in enumerate(zip(probes, targets, strict=True)):
        distances = [float(np.sqrt(((probe - other) ** 2).sum())) for other in real]
        own = min(d for d, label in zip(distances, labels, strict=True) if label == target)
        other = min(d for d, label in zip(distances, labels, strict=True) if label != target)
        assert judged.margins[row] == pytest.approx(other - own)
        nearest = sorted(range(24), key=lambda k: distances[k])[:5]
        assert judged.knn_classes[row] == Counter(labels[k] for k in nearest).most_common(1)[0][0]
    assert judged.knn == np.mean([a == b for a, b in zip(judged.knn_classes, targets, strict=True)])
    assert judged.margin == pytest.approx(np.mean(judged.margins))
    assert 0 <= judged.svc <= 1


def test_judges_know_real_digits_and_refuse_what_they_cannot_judge() -> None:
    reference = load_reference("digits")
    data = load_cases("zoo:digits", {}, 30, 0)
    assert reference.images.shape == (len(reference.labels), 8, 8)
    grey = to_grey(np.stack([np.asarray(Image.open(_stream(case.content)).convert("RGB")) for case in data.cases]))
    judged = judge(grey, [str(case.label) for case in data.cases], reference)
    assert judged.knn > 0.9
    assert judged.svc > 0.9
    assert judged.margin > 0.2
    with pytest.raises(InputError, match="probes of 16 x 16 pixels cannot be judged by pictures of 8 x 8"):
        judge(np.zeros((1, 16, 16)), ["3"], reference)
    with pytest.raises(InputError, match="the judges know no class 'cat'; they know 0, 1, 2"):
        judge(np.zeros((1, 8, 8)), ["cat"], reference)


def _stream(content: bytes | None):
    import io

    return io.BytesIO(content or b"")


def test_every_case_goes_toward_another_class_that_its_draw_does_not_change() -> None:
    everything = load_cases(None, DIGITS, 450, 0)
    assert (everything.name, everything.unit, len(everything.classes)) == ("zoo:digits-16", "pictures", 10)
    aimed = {case.key: case.target for case in everything.toward_others()}
    assert all(case.target != case.label for case in everything.toward_others())
    assert len(set(aimed.values())) == 10
    drawn = load_cases(None, DIGITS, 60, 3)
    assert len(drawn) == 60
    assert drawn.digest != everything.digest
    assert {case.key: case.target for case in drawn.toward_others()}.items() <= aimed.items()
    assert load_cases(None, {"model": "zoo:digits-robust"}, 5, 0).name == "zoo:digits"


def test_no_training_digit_is_held_out() -> None:
    """Judges are fitted on training digits, and nothing that is evaluated on is among them."""
    from conceptry.models.zoo.datasets import load_dataset

    data = load_dataset("digits-16")
    assert not set(data.train) & set(data.heldout)
    assert load_reference("digits-16").images.shape == (len(data.train), 16, 16)


def test_folders_and_tables(pictures) -> None:
    data = load_cases(f"folder:{pictures}", DIGITS, None, 0)
    assert (len(data), data.classes, data.reference) == (6, ("cat", "dog"), None)
    (pictures / "t.csv").write_text("image,label,target,source\ncat/0.png,cat,dog,\ndog/1.png,,,dog\n")
    data = load_cases(f"csv:{pictures / 't.csv'}", DIGITS, None, 0)
    assert [(c.label, c.target, c.source) for c in data.cases] == [("cat", "dog", None), (None, None, "dog")]
    assert [c.target for c in data.toward_others()] == ["dog", None]
    rows = pd.DataFrame({"image": [str(pictures / "cat" / "0.png")] * 2, "target": ["dog", None]})
    data = table_cases(rows, ["cat", "cat"], "table")
    assert [(c.label, c.target) for c in data.cases] == [("cat", "dog"), ("cat", None)]
    (pictures / "probes.csv").write_text("target\n3\n4\n")
    assert [(c.image, c.target) for c in read_table(pictures / "probes.csv")] == [(None, "3"), (None, "4")]


def test_refusals(pictures) -> None:
    for name, sentence in (
        ("imagenet", "unknown data 'imagenet'; expected one of zoo:digits-16, zoo:digits, folder:PATH, csv:PATH"),
        (f"csv:{pictures / 'absent.csv'}", "absent.csv: no such file"),
    ):
        with pytest.raises(InputError, match=sentence):
            load_cases(name, DIGITS, None, 0)
    with pytest.raises(InputError, match="no data is known for timm:resnet18; name it: zoo:digits-16"):
        load_cases(None, {"model": "timm:resnet18"}, None, 0)
    with pytest.raises(InputError, match="size must be at least 1 picture, got 0"):
        load_cases(None, DIGITS, 0, 0)
    for content, sentence in (
        ("image,class\na,b\n", "expected columns among image, label, target, source; got image, class"),
        ("image\nx.png\n", "line 2: no picture at 'x.png'"),
        ("image\n", "holds no rows"),
    ):
        (pictures / "bad.csv").write_text(content)
        with pytest.raises(InputError, match=sentence):
            read_table(pictures / "bad.csv")
    (pictures / "bad.csv").write_text("image,target\n,3\n")
    with pytest.raises(InputError, match="every row needs a picture to be evaluated on"):
        load_cases(f"csv:{pictures / 'bad.csv'}", DIGITS, None, 0)
    with pytest.raises(InputError, match="expected a column image, got picture"):
        table_cases(pd.DataFrame({"picture": ["x"]}), None, "table")
    with pytest.raises(InputError, match="row 0, column 'image': expected bytes or the path of a picture"):
        table_cases(pd.DataFrame({"image": ["x.png"]}), None, "table")


def test_a_mode_that_needs_pictures_is_not_taken_for_a_probe() -> None:
    def predict(rows: pd.DataFrame, params: object = None) -> Answer:
        raise AssertionError("nothing is to be asked")

    for mode in ("counterfactual", "explain_error", "invert"):
        with pytest.raises(InputError, match=f"{mode} needs pictures, name at least one; without any, a version is pr"):
            explain_request(predict, check_request([], ["3"], DIGITS), {"mode": mode})
