"""Concept distribution of a data set, or of one class of it.

| field | meaning |
|---|---|
| weight | mean weight of a word over all pictures, those that do not name it included |
| share | share of pictures that name the word |
| histogram | pictures by the weight that they give the word, between `edges` |
"""

import math
from collections import defaultdict

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.data import items_of
from conceptry.evaluation.isolation.client import Predict
from conceptry.evaluation.splice.client import answers
from conceptry.evaluation.splice.data import ImageData
from conceptry.evaluation.tables import summary_title
from conceptry.models.errors import plural
from conceptry.models.method import Progress
from conceptry.models.splice.explanation import UNSURE

EDGES = [k / 20 for k in range(31)]  # of weights, the same for all summaries; the last bin has those above too


def summarise(predict: Predict, data: ImageData, label: str | None, progress: Progress) -> dict:
    """Count images, average l0 and cosine, and list every word with its weight and share, heaviest first."""
    label, predict = data.label_of(label), data.through(predict)
    images = items_of(data.images, label, data.name)
    weights: dict[str, list[float]] = defaultdict(list)
    l0, cosine, sure = [], [], []
    for rows in answers(predict, "image", images, progress=lambda share: progress("explaining pictures", share)):
        l0 += rows["l0"].tolist()
        cosine += rows["cosine"].tolist()
        sure += rows["sure"].tolist() if "sure" in rows else []
        for concepts in rows["concepts"]:
            for entry in concepts:
                weights[entry["concept"]].append(entry["weight"])
    n = len(images)
    words = [
        {
            "concept": word,
            "weight": math.fsum(w) / n,
            "share": len(w) / n,
            "histogram": np.histogram(np.minimum(w, EDGES[-1]), EDGES)[0].tolist(),
        }
        for word, w in weights.items()
    ]
    return {
        "data": data.name,
        "label": label,
        "count": n,
        "l0": math.fsum(l0) / n,
        "cosine": math.fsum(cosine) / n,
        "edges": EDGES,
        **({"unsure": sum(share < UNSURE for share in sure) / n} if sure else {}),
        "concepts": sorted(words, key=lambda entry: (-entry["weight"], entry["concept"])),
    }


def facts(record: dict) -> str:
    """Count of the images, and how sparse and faithful their decompositions are."""
    images = plural(record["count"], "picture")
    unsure = f", {record['unsure']:.0%} of them unsure" if "unsure" in record else ""
    return f"{images}, {record['l0']:.1f} words each, cosine {record['cosine']:.3f}{unsure}"


def describe_summary(record: dict) -> RenderableType:
    """Summary for the terminal: a line of facts, then one line for each word."""
    table = Table(show_header=True, header_style="dim", box=None, padding=(0, 1, 0, 2))
    table.add_column("word")
    table.add_column("mean weight", justify="right")
    table.add_column("named in", justify="right")
    for entry in record["concepts"]:
        table.add_row(escape(entry["concept"]), f"{entry['weight']:.4f}", f"{entry['share']:.1%}")
    return Group(f"{escape(summary_title(record))}: {facts(record)}", table)


def describe_probe(record: dict) -> RenderableType:
    """A probe for the terminal: its accuracy beside the others, the path, and the words of each class."""
    path = Table(show_header=True, header_style="dim", box=None, padding=(0, 1, 0, 2))
    for name in ("words", "accuracy", "interval"):
        path.add_column(name, justify="right")
    for each in record["curve"]:
        chosen = each["strength"] == record["strength"]
        cells = (str(each["concepts"]), f"{each['accuracy']:.3f}", f"{each['low']:.3f} to {each['high']:.3f}")
        path.add_row(*cells, style="bold" if chosen else None)
    words = Table(show_header=True, header_style="dim", box=None, padding=(0, 1, 0, 2))
    words.add_column("class")
    words.add_column("read off the words")
    for name, heaviest in record["words"].items():
        words.add_row(escape(name), escape(", ".join(f"{w['concept']} {w['weight']:.1f}" for w in heaviest)))
    return Group(*_probe_lines(record), path, words)


def _probe_lines(record: dict) -> list[str]:
    found = {name.removeprefix("probe_accuracy").strip("_"): each["mean"] for name, each in record["accuracy"].items()}
    without = f" without {', '.join(record['suppressed'])}" if record["suppressed"] else ""
    lines = [
        f"{plural(record['count'], 'picture')} of {record['data']}, {len(record['classes'])} classes; "
        f"trained on {record['trained_on']} of {record['train']}",
        f"accuracy {found['']:.3f} by {plural(record['concepts'], 'word')}{without}; by whole embeddings "
        f"{found['embedding']:.3f}, by recomposed ones {found['recomposed']:.3f}, by the most frequent class "
        f"{record['constant']:.3f}",
    ]
    if record["edited"]:
        lines.append(f"accuracy {found['edited']:.3f} once the probe loses {', '.join(record['edited'])}")
    return [escape(line) for line in lines]
