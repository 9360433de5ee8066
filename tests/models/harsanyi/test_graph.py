"""The And-Or graph: what it is made of, its counts against networkx, and its JSON."""

import json
import subprocess
import sys

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.graph import AndOrGraph, Pattern, build_graph

SETTINGS = settings(derandomize=True, deadline=None, max_examples=30)


def random_graph(seed: int, m: int, n: int, share_or: float = 0.3) -> AndOrGraph:
    rng = np.random.default_rng(seed)
    masks = np.unique(rng.random((m, n)) < 0.5, axis=0)
    kinds = np.where(rng.random(len(masks)) < share_or, "or", "and").tolist()
    return build_graph([f"x{i}" for i in range(n)], masks, rng.laplace(size=len(masks)), kinds, 2.0, -0.5, "class_1")


def planted() -> AndOrGraph:
    """Three "and" patterns with {a, b, c} in common, one "or" pattern over {a, b, c}, and one single player."""
    masks = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 0, 1], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0]], dtype=bool)
    kinds = ["and", "and", "and", "or", "and"]
    return build_graph("abcde", masks, np.array([1.0, -3.0, 2.0, 0.5, 0.25]), kinds, 1.75, 1.0, "y")


def test_planted_graph():
    graph = planted()
    assert graph.coalitions == ((0, 1, 2),)
    assert graph.patterns == (
        Pattern((0, 1, 2, 3), (0,), -3.0, "and"),
        Pattern((0, 1, 2, 4), (0,), 2.0, "and"),
        Pattern((0, 1, 2), (0,), 1.0, "and"),
        Pattern((0, 1, 2), (), 0.5, "or"),
        Pattern((3,), (), 0.25, "and"),
    )
    assert [graph.direct(p) for p in graph.patterns] == [(3,), (4,), (), (0, 1, 2), (3,)]
    assert graph.total == pytest.approx(1.75)
    # 5 players, 1 coalition, 5 patterns, the root; 5 + (2 + 2 + 1 + 3 + 1) + 3 edges.
    assert (graph.n_nodes, graph.n_edges) == (12, 17)


def test_networkx_nodes_and_edges():
    graph = planted().to_networkx()
    assert graph.nodes["root"] == {"kind": "root", "label": "+", "effect": pytest.approx(0.75)}
    assert graph.nodes["player", 3] == {"kind": "player", "label": "d", "effect": 0.0}
    coalition = {"kind": "coalition", "label": "a AND b AND c", "effect": 0.0, "operator": "and"}
    assert graph.nodes["coalition", 0] == coalition
    assert graph.nodes["pattern", 3] == {"kind": "pattern", "label": "a OR b OR c", "effect": 0.5, "operator": "or"}
    assert set(graph.predecessors(("pattern", 0))) == {("coalition", 0), ("player", 3)}
    assert set(graph.predecessors("root")) == {("pattern", k) for k in range(5)}


@SETTINGS
@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 10))
def test_counts_agree_with_networkx_and_players_reach_their_patterns(seed: int, m: int, n: int):
    graph = random_graph(seed, m, n)
    built = graph.to_networkx()
    assert (graph.n_nodes, graph.n_edges) == (built.number_of_nodes(), built.number_of_edges())
    assert networkx.is_directed_acyclic_graph(built)
    for place, pattern in enumerate(graph.patterns):
        below = networkx.ancestors(built, ("pattern", place))
        assert sorted(i for kind, i in below if kind == "player") == list(pattern.players)
        assert sorted(i for kind, i in below if kind == "coalition") == list(pattern.coalitions)
    sizes = [abs(p.effect) for p in graph.patterns]
    assert sizes == sorted(sizes, reverse=True)


@SETTINGS
@given(st.integers(0, 10**6), st.integers(0, 40), st.integers(1, 10))
def test_json_round_trip(seed: int, m: int, n: int):
    graph = random_graph(seed, m, n)
    assert AndOrGraph.from_json(graph.to_json()) == graph


def test_json_is_as_documented():
    assert json.loads(planted().to_json()) == {
        "target": "y",
        "v_full": 1.75,
        "v_empty": 1.0,
        "players": ["a", "b", "c", "d", "e"],
        "coalitions": [[0, 1, 2]],
        "patterns": [
            {"players": [0, 1, 2, 3], "coalitions": [0], "effect": -3.0, "kind": "and"},
            {"players": [0, 1, 2, 4], "coalitions": [0], "effect": 2.0, "kind": "and"},
            {"players": [0, 1, 2], "coalitions": [0], "effect": 1.0, "kind": "and"},
            {"players": [0, 1, 2], "coalitions": [], "effect": 0.5, "kind": "or"},
            {"players": [3], "coalitions": [], "effect": 0.25, "kind": "and"},
        ],
    }


def test_the_empty_pattern_is_left_out():
    graph = build_graph(["a", "b"], np.array([[0, 0], [1, 1]], dtype=bool), np.array([9.0, 1.0]), None, 10.0, 9.0, "y")
    assert graph.patterns == (Pattern((0, 1), (), 1.0),)
    assert graph.total == 10.0


def test_no_pattern_at_all():
    graph = build_graph(["a", "b"], np.zeros((0, 2), dtype=bool), np.zeros(0), None, 1.0, 1.0, "y")
    assert (graph.n_nodes, graph.n_edges, graph.to_networkx().number_of_nodes()) == (1, 0, 1)


def change(**fields: object) -> str:
    return json.dumps(json.loads(planted().to_json()) | fields)


def pattern(**fields: object) -> str:
    record = json.loads(planted().to_json())
    record["patterns"][1] |= fields
    return json.dumps(record)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "the graph is \\[\\]; expected a JSON object"),
        ("{}", "the graph has no 'patterns'"),
        (change(patterns=3), "patterns of the graph is 3; expected a list"),
        (change(patterns=[3]), "pattern 0 is 3; expected a JSON object"),
        (change(players=["a", "b", "c", "d", 5]), "players of the graph: got 5; expected a text"),
        (change(players=["a", "b", "c", "d", "a"]), "must be distinct"),
        (change(coalitions=[[0, 1, 2.0]]), "expected a list of integers"),
        (change(coalitions=[[0]]), r"coalition 0 has players \[0\]; expected 2 or more"),
        (change(coalitions=[[0, 1, 2], [1, 2]]), "every coalition must be used"),
        (change(v_full="1"), 'v_full of the graph is "1"; expected a number'),
        (change(v_full=float("inf")), "v_full and v_empty must be finite"),
        (change(v_full=10**400), "too large"),
        (change(target=None), "target of the graph: got null; expected a text"),
        (pattern(effect=True), "effect of pattern 1 is true; expected a number"),
        (pattern(effect=float("nan")), "the effect of pattern [0-9] is nan"),
        (pattern(kind="xor"), "is of kind 'xor'; expected one of and, or"),
        (pattern(players=[]), r"has players \[\]; expected 1 or more ascending indices below 5"),
        (pattern(players=[2, 1]), r"has players \[2, 1\]"),
        (pattern(players=[1, 1]), r"has players \[1, 1\]"),
        (pattern(players=[5]), r"has players \[5\]"),
        (pattern(players=[True]), "expected a list of integers"),
        (pattern(coalitions=[1]), r"names coalitions \[1\] that do not exist"),
        (pattern(coalitions=[0, 0]), "must be disjoint"),
        (pattern(players=[3, 4]), "hold players of it alone"),
        (pattern(kind="or"), "only 'and' patterns are written with coalitions"),
        (pattern(players=[0, 1, 2, 3]), "repeats another one"),
    ],
)
def test_malformed_json_is_refused(text: str, message: str):
    with pytest.raises(InputError, match=message):
        AndOrGraph.from_json(text)


@pytest.mark.parametrize(
    ("players", "masks", "effects", "kinds", "message"),
    [
        (["a"], np.ones((2, 2)), np.ones(2), None, "got 1 players, masks of shape \\(2, 2\\)"),
        (["a", "b"], np.ones((2, 2)), np.ones(1), None, "interactions of shape \\(1,\\)"),
        (["a", "b"], np.ones((1, 2)), np.ones(1), ["and", "or"], "and 2 kinds"),
        (["a", "b"], np.ones((1, 2)), np.ones(1), ["xor"], "'xor'"),
        (["a", "a"], np.ones((1, 2)), np.ones(1), None, "distinct"),
        (["a", "b"], np.ones((2, 2)), np.ones(2), None, "repeats another one"),
        (["a", "b"], np.ones((1, 2)), np.array([np.inf]), ["or"], "expected a finite number"),
    ],
)
def test_parts_that_do_not_fit_are_refused(players, masks, effects, kinds, message):
    with pytest.raises(InputError, match=message):
        build_graph(players, masks, effects, kinds, 1.0, 0.0, "y")


def test_networkx_is_imported_only_where_it_is_used():
    code = "import sys, conceptry.models.harsanyi.graph; sys.exit('networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_graph_is_saved_by_the_ending_of_the_file(tmp_path):
    graph = planted()
    graph.save(tmp_path / "graph.json")
    assert AndOrGraph.from_json((tmp_path / "graph.json").read_text()) == graph
    graph.save(str(tmp_path / "graph.svg"), title="mine", highlight="rank-2", colours="simple")
    assert ">mine</text>" in (tmp_path / "graph.svg").read_text()
    graph.save(tmp_path / "graph.html", title="A page", highlight="largest")
    page = (tmp_path / "graph.html").read_text()
    assert "<title>A page</title>" in page
    assert "&quot;rows&quot;: [0]" in page
    graph.save(tmp_path / "graph.pdf")
    assert (tmp_path / "graph.pdf").read_bytes().startswith(b"%PDF")
    graph.save(tmp_path / "graph.png", figsize=(6, 3))
    with Image.open(tmp_path / "graph.png") as image:
        assert image.size == (900, 450)  # 150 dots an inch
    for name, style, message in (
        ("graph.txt", {}, r"graph.txt: an And-Or graph is written as .html, .svg, .png, .pdf or .json"),
        ("graph.svg", {"highlight": "rank-6"}, 'highlight must be "largest", "top 20%" or "rank-K"'),
        ("graph.html", {"highlight": "best"}, 'highlight must be "largest"'),
        ("graph.html", {"rows": 2}, "an HTML page has no style 'rows'"),
        ("graph.svg", {"rows": "2"}, "the style rows must be of type int"),
        ("graph.svg", {"figsize": (0, 3)}, "figsize must be a width and a height in inches above 0"),
    ):
        with pytest.raises(InputError, match=message):
            graph.save(tmp_path / name, **style)


def test_a_graph_of_patterns_without_rewards():
    graph = build_graph(["a", "b"], np.array([[1, 0], [1, 1]]), np.array([2.0, -0.5]), None, None, None, "y")
    assert (graph.total, graph.v_full, graph.v_empty) == (1.5, None, None)
    assert AndOrGraph.from_json(graph.to_json()) == graph
    assert json.loads(graph.to_json())["v_full"] is None
