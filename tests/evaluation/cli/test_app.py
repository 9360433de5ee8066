"""The command line: help that reads well, errors of one line, exit codes, every command on a real store."""

import json
from pathlib import Path

import pytest
from PIL import Image

COMMANDS = (
    "register",
    "evaluate",
    "compare",
    "promote",
    "list",
    "show",
    "gc",
    "explain",
    "summarise",
    "probe",
    "drift",
    "train",
    "benchmark",
    "demo",
    "ui",
)


def test_help_lists_every_command(conceptry, command_line) -> None:
    done = conceptry("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for command in COMMANDS:
        assert command in done.stdout
        code, out, _ = command_line(command, "--help")
        assert code == 0
        assert out.startswith("Usage: ")
    code, _, err = command_line("register")
    assert code == 2
    assert "Usage: " in err
    _, out, _ = command_line("register", "splice", "--help")
    assert "--l1-penalty" in out
    assert "[default: .45 for zoo:photos and textunlock:FOLDER, else .25]" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("nonsense",), 2, "No such command 'nonsense'"),
        (("register", "spice"), 2, "No such command 'spice'"),
        (("register", "splice", "--l1-penalty", "x"), 2, "'x' is not a valid float"),
        (("register", "splice", "--l1-penalty", "-1"), 2, "l1_penalty must be a finite number above 0"),
        (("register", "splice", "--runtime", "tvm"), 2, "'tvm' is not one of 'torch', 'onnx'"),
        (("register", "splice", "--vocabulary", "nowhere.txt"), 2, "'nowhere.txt' is neither a file nor one of"),
        (("evaluate", "tiny/1", "--data", "imagenet"), 2, "unknown data 'imagenet'"),
        (("evaluate", "tiny/77"), 2, "no such version"),
        (
            ("probe", "tiny/1", "--data", "zoo:emoji-scenes"),
            2,
            "the class 'lion' has one picture; name data to train",
        ),
        (("compare", "nobody"), 2, "no version of that name"),
        (("ui", "nobody"), 2, "no version of 'nobody' is registered; there is "),
        (("ui", "tiny/77"), 2, "no such version"),
        (("compare", "tiny", "--versions", "a"), 2, "--versions takes numbers"),
        (("promote", "tiny", "1", "--require", "cosine>=2"), 1, "has no metric 'cosine'"),
        (("promote", "tiny", "1", "--require", "cosine"), 2, "expected METRIC>=NUMBER"),
        (("show", "tiny"), 2, "expected models:/NAME/NUMBER"),
        (("explain", "tiny/1", "nowhere.png"), 2, "nowhere.png: no such file"),
        (("explain", "tiny/1", "x.png", "--params", "{"), 2, "--params must be JSON"),
        (
            ("explain", "tiny/1", "x.png", "--params", '{"topk": 5}'),
            2,
            "no parameter 'topk'; expected one of l1_penalty",
        ),
        (("explain", "tiny/1", "x.png", "--output", "nowhere/x.png"), 2, "there is no folder nowhere"),
        (("evaluate", "tiny/1", "--seed", "-1"), 2, "-1 is not in the range x>=0"),
        (("evaluate", "tiny/1", "--data", "folder:d[/b]"), 2, "d[/b]: no such folder"),
        (("evaluate", "tiny/1", "--metrics", "x"), 2, "'x' is no group of metrics here; expected one of basic"),
        (("summarise", "tiny/1", "--data", "zoo:emoji-scenes", "--output", "x.bmp"), 2, "--output must end in .png"),
        (("summarise", "tiny/1", "--data", "zoo:emoji-scenes", "--top", "0"), 2, "0 is not in the range x>=1"),
        (
            ("summarise", "tiny/1", "--data", "zoo:emoji-scenes", "--size", "8", "--label", "zebras"),
            2,
            "'zebras' is not one of the",
        ),
        (("benchmark", "splice", "--json", "nowhere/x.json"), 2, "--json nowhere/x.json: there is no folder nowhere"),
        (("explain", "tiny/1"), 2, "splice explains files: name at least one"),
        (("explain", "tiny/1", "x.png", "--target", "dog"), 2, "splice takes no class to explain by, got --target dog"),
        (("explain", "tiny/1", "x.png", "--beside", "tiny/1"), 2, "splice draws one version at a time"),
        (("benchmark", "splice", "--dictionary", "nowhere.npz"), 2, "nowhere.npz"),
    ],
)
def test_errors_are_one_line(command_line, tiny_version, arguments, code: int, sentence: str) -> None:
    returned, _, err = command_line(*arguments)
    assert returned == code, err
    *before, line = err.strip().splitlines()
    assert before in ([], ["on cpu"])  # a refusal may come after the version was loaded
    assert line.startswith("conceptry: ")
    assert sentence in line


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("show", "absent/1"), 2), (("list", "absent"), 2), (("--tracking-uri", "http://127.0.0.1:9", "list"), 1)],
)
def test_errors_are_one_line_for_the_installed_command(conceptry, arguments: tuple[str, ...], code: int) -> None:
    done = conceptry(*arguments, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    assert (done.returncode, done.stdout) == (code, "")
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("conceptry: ")


def test_a_tour(command_line, tiny_options, tmp_path: Path, picture: Image.Image) -> None:
    def output_of(*arguments: str) -> str:
        code, out, err = command_line(*arguments)
        assert code == 0, err
        return " ".join(out.split())

    options = [part for k, v in tiny_options.items() for part in (f"--{k}", v)]
    assert output_of("register", "splice", "--name", "tour", *options) == "registered models:/tour/1"
    assert "nothing to add: models:/tour/1" in output_of("register", "splice", "--name", "tour", *options)
    output_of("register", "splice", "--name", "tour", *options, "--l1-penalty", "0.1")
    assert "cosine ↑" in output_of("evaluate", "tour/1", "--size", "8")
    again = json.loads(output_of("evaluate", "tour/1", "--size", "8", "--missing", "--json"))
    assert (again["measured"], again["count"]) == ([], 8)
    assert again["scores"]["l0"]["low"] <= again["metrics"]["l0"] <= again["scores"]["l0"]["high"]
    assert again["scores"]["gap_max"]["low"] is None

    compared = output_of("compare", "tour")
    assert "l1_penalty" in compared
    assert "not evaluated yet: v2" in compared
    records = json.loads(output_of("compare", "tour", "--json"))
    assert [r["params"] for r in records] == [{"l1_penalty": "0.25"}, {"l1_penalty": "0.1"}]

    code, _, err = command_line("promote", "tour", "1", "--require", "cosine>=2")
    assert (code, "is not promoted: cosine>=2 is required" in err) == (1, True)
    promoted = output_of("promote", "tour", "1", "--require", "cosine>=-1")
    assert "champion is now models:/tour/1 (cosine>=-1)" in promoted
    assert "nothing to do" in output_of("promote", "tour", "1")
    shown = output_of("show", "tour@champion")
    assert "sha256.vocabulary.txt" in shown
    assert "champion: none -> 1" in shown
    assert [v["aliases"] for v in json.loads(output_of("list", "tour", "--json"))] == [["champion"], []]
    assert "tour/2" in output_of("list")

    picture.save(tmp_path / "[red]a.png")  # no markup
    picture.rotate(90).save(tmp_path / "b.jpg")
    drawn = tmp_path / "words.png"
    files = [str(tmp_path / "[red]a.png"), str(tmp_path / "b.jpg")]
    params = ("--params", '{"l1_penalty": 0.05}')
    explained = output_of("explain", "tour@champion", *files, "--output", str(drawn), *params)
    assert "words, cosine" in explained
    assert "[red]a.png: " in explained
    with Image.open(drawn) as image:
        assert image.size[0] > 500
    record, _ = json.loads(output_of("explain", "tour/2", *files, "--json"))
    assert record["l0"] == len(record["concepts"])

    code, _, err = command_line("explain", "tour/1", files[0], "--output", "x.bmp")
    kinds = ".png, .svg, .pdf, .txt, .csv or .json"
    assert (code, err.strip()) == (2, f"conceptry: --output must end in {kinds}, got x.bmp")
    table = tmp_path / "words.csv"
    assert "a dog: " in output_of("explain", "tour/1", files[0], "a dog", "--output", str(table), *params)
    assert {line.split(",")[0] for line in table.read_text().splitlines()[1:]} == {files[0], "a dog"}
    summary = tmp_path / "all.json"
    output_of("summarise", "tour/1", "--data", "zoo:emoji-scenes", "--size", "4", "--output", str(summary))
    assert json.loads(summary.read_text())["count"] == 4


def test_summarise(command_line, tiny_version, tmp_path: Path, picture: Image.Image) -> None:
    for label in ("a[b]", "c"):
        (tmp_path / label).mkdir()
        for i in range(3):
            picture.rotate(50 * i).save(tmp_path / label / f"{i}.png")
    drawn = tmp_path / "summary.svg"
    asked = ("summarise", tiny_version.uri, "--data", f"folder:{tmp_path}", "--device", "cpu")
    code, out, err = command_line(*asked, "--label", "a[b]", "--top", "2", "--output", str(drawn))
    assert (code, err.splitlines()) == (0, ["on cpu", f"saved {drawn}"])
    assert "a[b] (folder:" in " ".join(out.split())  # a long folder breaks the line
    assert "3 pictures, " in " ".join(out.split())
    assert drawn.stat().st_size > 1000
    code, out, _ = command_line(*asked, "--json")
    record = json.loads(out)
    assert (code, record["count"], record["label"]) == (0, 6, None)
    weights = [entry["weight"] for entry in record["concepts"]]
    assert weights == sorted(weights, reverse=True)


def test_names_that_look_like_markup(command_line, tiny_version, tmp_path: Path, picture: Image.Image) -> None:
    folder = tmp_path / "d[" / "b]"
    folder.mkdir(parents=True)
    for i in range(2):
        picture.rotate(90 * i).save(folder / f"[red]{i}.png")
    code, out, err = command_line("evaluate", tiny_version.uri, "--data", f"folder:{folder}", "--device", "cpu")
    assert (code, "d[/b]" in out.replace("\n", "")) == (0, True), err


def test_a_warning_that_looks_like_markup(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    import warnings

    from conceptry.evaluation.cli import app

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    app._quiet_libraries()
    warnings.showwarning(UserWarning("closing [/b]"), UserWarning, "", 0)
    assert capsys.readouterr().err == "note: closing [/b]\n"
