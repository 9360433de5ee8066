"""Evaluate SpLiCE versions: sparsity, fidelity, what the words say, what the recomposition still knows, and speed.

Everything is asked through `predict`, as a user would: pictures, prompts and captions go in, decompositions and
embeddings come out, so the same code judges a version in any runtime and with any code of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from conceptry.evaluation.data import Picture, PictureData
from conceptry.evaluation.harness import Metric, Progress, Report
from conceptry.evaluation.process import Predict
from conceptry.evaluation.splice import metrics as m
from conceptry.evaluation.splice.pictures import draw_explanations, draw_frontier
from conceptry.models.images import open_image

BATCH = 64
PROMPT = "a photo of a {}"
PENALTIES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 1.0)
FRONTIER_PICTURES = 256
TIMING_REPEATS = 5

_METRICS = {
    "l0": Metric("lower", ".2f", "words per picture, mean"),
    "l0_std": Metric(None, ".2f", "words per picture, standard deviation"),
    "cosine": Metric("higher", ".3f", "cosine of z and z_hat, mean"),
    "cosine_std": Metric(None, ".3f", "cosine of z and z_hat, standard deviation"),
    "gap": Metric("lower", ".1e", "duality gap, mean"),
    "gap_std": Metric(None, ".1e", "duality gap, standard deviation"),
    "gap_max": Metric("lower", ".1e", "duality gap, largest"),
    "zero_shot": Metric("higher", ".3f", "zero-shot accuracy with z"),
    "zero_shot_recomposed": Metric("higher", ".3f", "zero-shot accuracy with z_hat"),
    "zero_shot_ratio": Metric("higher", ".3f", "zero-shot accuracy with z_hat over that with z"),
    "retrieval": Metric("higher", ".3f", "picture-to-caption recall at 1 with z"),
    "retrieval_recomposed": Metric("higher", ".3f", "picture-to-caption recall at 1 with z_hat"),
    "concept_precision": Metric("higher", ".3f", "share of named words that are true"),
    "encode_ms": Metric("lower", ".2f", "milliseconds per picture to decode and encode it, batch 64"),
    "solve_ms": Metric("lower", ".3f", "milliseconds per picture to solve and recompose, batch 64"),
}


def _recall_metric(name: str) -> Metric:
    kind = name.removeprefix("recall_")
    if kind.endswith("_all"):
        return Metric("higher", ".3f", f"share of pictures whose {kind.removesuffix('_all')} words are all named")
    return Metric("higher", ".3f", f"share of true {kind} words that are named")


class _MetricTable(dict[str, Metric]):
    """The fixed metrics, and one for each kind of true words that data brings along."""

    def __missing__(self, name: str) -> Metric:
        if name.startswith("recall_"):
            return _recall_metric(name)
        raise KeyError(name)

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if name in self or name.startswith("recall_") else default


@dataclass(frozen=True)
class _Explained:
    """What a version said of n pictures: unit embeddings z and z_hat (n, d), words, and certificates."""

    z: np.ndarray
    z_hat: np.ndarray
    words: list[list[str]]
    l0: np.ndarray
    cosine: np.ndarray
    gap: np.ndarray


class SpliceHarness:
    """See `conceptry.evaluation.harness.Harness`."""

    revision = 1
    default_data = "zoo:emoji-scenes"
    metrics: Mapping[str, Metric] = _MetricTable(_METRICS)
    headline = (
        "l0",
        "cosine",
        "gap_max",
        "zero_shot_recomposed",
        "zero_shot_ratio",
        "retrieval_recomposed",
        "recall_objects_all",
        "recall_colour",
        "concept_precision",
        "encode_ms",
        "solve_ms",
    )

    def evaluate(self, predict: Predict, data: PictureData, progress: Progress) -> Report:
        contents = [picture.content() for picture in data.pictures]
        explained = _explain(predict, contents, lambda share: progress("explaining pictures", 0.6 * share))
        report = Report()
        report.metrics |= {
            **m.spread(explained.l0, "l0"),
            **m.spread(explained.cosine, "cosine"),
            **m.spread(explained.gap, "gap"),
            "gap_max": float(explained.gap.max()),
        }
        progress("zero-shot and retrieval", 0.6)
        report.metrics |= _zero_shot(predict, data.pictures, explained)
        report.metrics |= _retrieval(predict, data.pictures, explained)
        report.metrics |= _concepts(data.pictures, explained)
        progress("timing", 0.7)
        report.metrics |= _timing(predict, contents, explained)
        frontier = _frontier(predict, explained.z[:FRONTIER_PICTURES], lambda s: progress("frontier", 0.8 + 0.2 * s))
        report.tables["frontier"] = frontier
        report.figures["frontier"] = draw_frontier(frontier, report.metrics["l0"], report.metrics["cosine"])
        progress("done", 1.0)
        return report

    def check_files(self, files: list[Path]) -> None:
        for file in files:
            open_image(file)

    def explain(self, predict: Predict, files: list[Path], params: Mapping[str, Any]) -> tuple[list[dict], Figure]:
        pictures = [open_image(file) for file in files]
        rows = predict(pd.DataFrame({"image": [file.read_bytes() for file in files]}), params).rows
        records = []
        for file, row in zip(files, rows.to_dict("records"), strict=True):
            fields = {name: row[name] for name in ("concepts", "l0", "cosine", "gap")}
            records.append({"file": str(file), **fields})
        return records, draw_explanations(pictures, records)

    def describe(self, records: list[dict]) -> RenderableType:
        return Group(*(_described(record) for record in records))


def _described(record: dict) -> RenderableType:
    title = f"{escape(record['file'])}: {record['l0']} words, cosine {record['cosine']:.3f}"
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 2))
    for entry in record["concepts"]:
        table.add_row(escape(entry["concept"]), f"{entry['weight']:.4f}")
    return Group(title, table, "")


def _explain(predict: Predict, contents: Sequence[bytes], progress) -> _Explained:
    answers = []
    for start in range(0, len(contents), BATCH):
        batch = pd.DataFrame({"image": contents[start : start + BATCH]})
        answers.append(predict(batch, {"return_embedding": True}).rows)
        progress(min(1.0, (start + BATCH) / len(contents)))
    rows = pd.concat(answers, ignore_index=True)
    return _Explained(
        z=np.stack(rows["embedding"].tolist()),
        z_hat=np.stack(rows["recomposed"].tolist()),
        words=[[entry["concept"] for entry in concepts] for concepts in rows["concepts"]],
        l0=rows["l0"].to_numpy(float),
        cosine=rows["cosine"].to_numpy(float),
        gap=rows["gap"].to_numpy(float),
    )


def _embed_texts(predict: Predict, texts: Sequence[str]) -> np.ndarray:
    parts = []
    for start in range(0, len(texts), BATCH):
        rows = predict(pd.DataFrame({"text": texts[start : start + BATCH]}), {"return_embedding": True}).rows
        parts += rows["embedding"].tolist()
    return np.stack(parts)


def _zero_shot(predict: Predict, pictures: Sequence[Picture], explained: _Explained) -> dict[str, float]:
    labelled = [i for i, picture in enumerate(pictures) if picture.label]
    classes = sorted({picture.label for picture in pictures if picture.label})
    if len(classes) < 2:
        return {}
    prompts = _embed_texts(predict, [PROMPT.format(name.replace("_", " ")) for name in classes])
    labels = [classes.index(pictures[i].label or "") for i in labelled]
    dense = m.zero_shot_accuracy(explained.z[labelled], prompts, labels)
    recomposed = m.zero_shot_accuracy(explained.z_hat[labelled], prompts, labels)
    found = {"zero_shot": dense, "zero_shot_recomposed": recomposed}
    return found | ({"zero_shot_ratio": recomposed / dense} if dense else {})


def _retrieval(predict: Predict, pictures: Sequence[Picture], explained: _Explained) -> dict[str, float]:
    captioned = [i for i, picture in enumerate(pictures) if picture.caption]
    captions = list(dict.fromkeys(pictures[i].caption or "" for i in captioned))
    if len(captions) < 2:
        return {}
    texts = _embed_texts(predict, captions)
    truth = [captions.index(pictures[i].caption or "") for i in captioned]
    return {
        "retrieval": m.retrieval_recall(explained.z[captioned], texts, truth),
        "retrieval_recomposed": m.retrieval_recall(explained.z_hat[captioned], texts, truth),
    }


def _concepts(pictures: Sequence[Picture], explained: _Explained) -> dict[str, float]:
    found = {}
    for kind in dict.fromkeys(kind for picture in pictures for kind in picture.concepts):
        true = [picture.concepts.get(kind, ()) for picture in pictures]
        recall = m.concept_recall(explained.words, true)
        found[f"recall_{kind}"] = recall["recall"]
        several = [i for i, words in enumerate(true) if len(words) > 1]
        if several:
            chosen = m.concept_recall([explained.words[i] for i in several], [true[i] for i in several])
            found[f"recall_{kind}_all"] = chosen["all"]
    if found:
        everything = [[word for words in picture.concepts.values() for word in words] for picture in pictures]
        precision = m.concept_precision(explained.words, everything)
        if np.isfinite(precision):
            found["concept_precision"] = precision
    return found


def _timing(predict: Predict, contents: Sequence[bytes], explained: _Explained) -> dict[str, float]:
    """Medians over a few batches: a request of embeddings costs the solve, one of pictures encoding as well."""
    n = min(BATCH, len(contents))
    pictures = pd.DataFrame({"image": contents[:n]})
    embeddings = pd.DataFrame({"embedding": list(explained.z[:n])})
    seconds = [(predict(pictures).seconds, predict(embeddings).seconds) for _ in range(TIMING_REPEATS)]
    whole, solve = np.median(seconds, axis=0) / n * 1000
    return {"encode_ms": float(max(whole - solve, 0.0)), "solve_ms": float(solve)}


def _frontier(predict: Predict, z: np.ndarray, progress) -> pd.DataFrame:
    rows = []
    frame = pd.DataFrame({"embedding": list(z)})
    for done, penalty in enumerate(PENALTIES, start=1):
        answer = predict(frame, {"l1_penalty": penalty}).rows
        rows.append(
            {
                "l1_penalty": penalty,
                "l0": float(np.mean(answer["l0"])),
                "cosine": float(np.mean(answer["cosine"])),
                "gap_max": float(np.max(answer["gap"])),
            }
        )
        progress(done / len(PENALTIES))
    return pd.DataFrame(rows)
