"""How often drift is seen where it is, and where it is not: planted changes among scenes of the emoji world.

A pool of scenes is explained once by `zoo:emoji-clip`. Each trial draws two disjoint data sets from it: alike, or the
second with one colour or one object more frequent, by 5 of 100 pictures or by a twentieth of what it was. Detection is
that the verdict names the word itself.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.sparse import csc_array, csr_array

from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target
from conceptry.evaluation.drift.comparison import ALPHA, compare_sums
from conceptry.evaluation.drift.sums import ConceptSums

POOL, ROWS = 8000, 2000
ALIKE, QUICK_ALIKE = 400, 40  # trials without drift
EACH, QUICK_EACH = 20, 2  # trials of each colour and object
POINTS, FACTOR = 0.05, 1.05
BATCH = 256
POWER = 0.9


def run(dictionary: Path | None = None, quick: bool = False, progress: Callable[[str], None] = print) -> Benchmark:
    """Measure; some minutes, or under one if `quick`. `dictionary` says nothing here: other benchmarks take one."""
    pool, rows = (POOL // 2, ROWS // 2) if quick else (POOL, ROWS)
    progress(f"explaining {pool} scenes")
    start = time.perf_counter()
    weights, words, facts = explained_scenes(pool)
    explaining = time.perf_counter() - start
    rng = np.random.default_rng(0)
    progress("data sets that are alike")
    start = time.perf_counter()
    alarms = [bool(named(weights, words, *disjoint(rng, pool, rows))) for _ in range(QUICK_ALIKE if quick else ALIKE)]
    seconds = (time.perf_counter() - start) / len(alarms)
    false_alarms = float(np.mean(alarms))
    records = [Record("alike", "drift", seconds, extra={"said to drift": false_alarms, "trials": len(alarms)})]
    targets = [Target("false alarms among data sets that are alike", false_alarms, ALPHA, "max")]
    for kind, found in facts.items():
        present = [word for word in sorted(set(found)) if word in words]
        for title, amount in ((f"+{POINTS:.0%} of all pictures", POINTS), (f"times {FACTOR:g}", None)):
            progress(f"{kind}: {title}")
            seen, others, trials = 0, 0, 0
            for word in present:
                for _ in range(QUICK_EACH if quick else EACH):
                    drifted = named(weights, words, *changed(rng, found == word, rows, amount))
                    seen += word in drifted
                    others += len([each for each in drifted if each != word])
                    trials += 1
            extra = {"detected": seen / trials, "others named": others / trials, "trials": trials}
            records.append(Record(f"{kind}, {title}", "drift", None, extra=extra))
            if amount is not None:
                targets.append(Target(f"detection: {kind}, {title}", seen / trials, POWER, "min"))
    notes = [
        f"{rows} pictures before and after; {len(words)} words; seed 0; {1e3 * explaining / pool:.1f} ms to draw and "
        "explain a picture"
    ]
    return Benchmark("drift", records, targets, notes)


def explained_scenes(count: int) -> tuple[csr_array, list[str], dict[str, np.ndarray]]:
    """Weights of words (count, words) of scenes with one object each, the words, and the true colour and object."""
    from conceptry.models import splice
    from conceptry.models.zoo.emoji_world.scenes import CLASSES, EmojiScenes

    model = splice.Splice("zoo:emoji-clip", device="cpu")
    scenes = EmojiScenes("heldout", count, n_objects=1, objects=CLASSES)
    cells, colours, objects = [], [], []
    for images in _batches([scenes[i] for i in range(count)]):
        colours += [scene.colour for scene in images]
        objects += [scene.objects[0] for scene in images]
        answers = model.explain([Image.fromarray(scene.image) for scene in images]).answers()
        cells += [{entry["concept"]: entry["weight"] for entry in answer["concepts"]} for answer in answers]
    words = sorted({word for cell in cells for word in cell})
    place = {word: k for k, word in enumerate(words)}
    at = [(i, place[word], value) for i, cell in enumerate(cells) for word, value in cell.items()]
    rows, columns, values = zip(*at, strict=True)
    weights = csr_array((values, (rows, columns)), shape=(count, len(words)))
    return weights, words, {"colour": np.array(colours), "object": np.array(objects)}


def named(weights: csr_array, words: Sequence[str], before: np.ndarray, after: np.ndarray) -> list[str]:
    """Words that are said to have drifted between two sets of rows."""
    table = compare_sums(_sums("before", weights[before], words), _sums("after", weights[after], words))
    return table.loc[table["drifted"], "concept"].tolist()


def disjoint(rng: np.random.Generator, pool: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Two data sets of the pool without a common row."""
    drawn = rng.permutation(pool)[: 2 * rows]
    return drawn[:rows], drawn[rows:]


def changed(
    rng: np.random.Generator, has: np.ndarray, rows: int, points: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Two data sets: in the second, rows where `has` are more frequent by `points`, or by FACTOR for None."""
    before = rng.permutation(len(has))[:rows]
    rest = np.setdiff1d(np.arange(len(has)), before)
    share = has.mean() + points if points is not None else has.mean() * FACTOR
    wanted = round(rows * share)
    with_it, without = (rng.permutation(rest[has[rest] == value]) for value in (True, False))
    assert len(with_it) >= wanted, "the pool is too small"
    return before, np.concatenate([with_it[:wanted], without[: rows - wanted]])


def _sums(name: str, weights: csr_array, words: Sequence[str]) -> ConceptSums:
    columns = csc_array(weights)
    total, squares, count = columns.sum(axis=0), columns.power(2).sum(axis=0), np.diff(columns.indptr)
    sums = {word: np.array([count[k], total[k], squares[k]], dtype=float) for k, word in enumerate(words) if count[k]}
    return ConceptSums(name, "splice", len(weights.indptr) - 1, 0, {("pool", "")}, sums)


def _batches(scenes: list) -> Iterator[list]:
    for start in range(0, len(scenes), BATCH):
        yield scenes[start : start + BATCH]
