"""Servers of versions: what garbage they survive, what many clients at once get, and what a request takes over HTTP.

Each method's default version is behind the real `conceptry serve`, and beside it behind `mlflow models serve`: both get
the same requests.
"""

import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from conceptry.evaluation.benchmarks.fuzzing import Request, fuzzed, has_trace, json_rows
from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target
from conceptry.evaluation.benchmarks.servers import (
    CONCEPTRY,
    MLFLOW,
    Client,
    image_request,
    own_store,
    served,
)
from conceptry.models.method import METHODS

REPEATS, WARM_UP = 200, 20
FUZZED, QUICK_FUZZED = 10_000, 200
CLIENTS, SECONDS, QUICK_SECONDS = 8, 600.0, 8.0
OPTIONS: Mapping[str, Mapping[str, Any]] = {"milan": {"size": 200, "layers": "layer3", "k": 5}}


def run(
    dictionary: Path | None = None, quick: bool = False, progress: Callable[[str], None] = lambda _: None
) -> Benchmark:
    """Measure both servers; about an hour, or some minutes if `quick`. `dictionary` says nothing here."""
    count, seconds = (QUICK_FUZZED, QUICK_SECONDS) if quick else (FUZZED, SECONDS)
    records: list[Record] = []
    with own_store():
        for method in METHODS:
            for record in _measure_method(method, count, seconds / len(METHODS), progress):
                records.append(record)  # and said at once: what is known is not lost with a run that is stopped
                found = ", ".join(f"{name} {value}" for name, value in record.extra.items())
                progress(f"{record.case}, {record.implementation}: {found}")
    own = [record.extra for record in records if record.implementation == CONCEPTRY]
    sums = {name: sum(extra.get(name, 0) for extra in own) for name in ("5xx", "traces", "lost", "wrong")}
    growth = [extra["memory growth"] for extra in own if extra.get("memory growth") is not None]
    targets = [Target(f"{what}, {CONCEPTRY}", float(value), 0, "max") for what, value in sums.items()]
    targets.append(Target("growth of memory over the second half", max(growth, default=None), 0.02, "max"))
    notes = [
        f"fuzzed: {count:,} requests a method, the same to both servers; 5xx are those but 503",
        f"load: {CLIENTS} clients for {seconds / len(METHODS):.0f} s a method; an answer is wrong if it differs from "
        "the one to the same request alone",
    ]
    return Benchmark("serving", records, targets, notes)


def _measure_method(method: str, count: int, seconds: float, progress: Callable[[str], None]) -> Iterator[Record]:
    from conceptry.registry import load, register

    progress(f"{method}: registering")
    version = register(method, OPTIONS.get(method, {})).version
    model = load(version.uri)
    example = model.input_example
    schema = model.metadata.get_params_schema()
    names = [spec.name for spec in schema.params] if schema else []
    for program in (CONCEPTRY, MLFLOW):
        progress(f"{method}: starting {program}")
        with served(version.uri, program) as client:
            progress(f"{method}: {count:,} fuzzed requests to {program}")
            yield Record(f"fuzzed, {method}", program, None, extra=send_fuzzed(client, fuzzed(example, names, count)))
            progress(f"{method}: {CLIENTS} clients of {program}")
            yield Record(f"load, {method}", program, *load_of(client, variants(method, example), seconds))


def send_fuzzed(client: Client, requests: Iterator[Request]) -> dict[str, Any]:
    """Send requests one after another; count the answers by kind of status, and what must not be."""
    found: Counter[str] = Counter()
    for request in requests:
        try:
            status, text = client.send(*request)
        except OSError:
            client.close()  # the next request connects anew
            found["lost"] += 1
            continue
        found[f"{status // 100}xx" if status != 503 else "503"] += 1
        found["traces"] += has_trace(status, text)
    return {name: found[name] for name in ("2xx", "4xx", "503", "5xx", "traces", "lost")}


def load_of(client: Client, bodies: Sequence[bytes], seconds: float) -> tuple[float, float | None, dict[str, Any]]:
    """Median seconds of a request of many clients, the server's memory, and what was lost, wrong, or grew."""
    expected = [client.post(body) for body in bodies]
    times: list[float] = []
    found: Counter[str] = Counter()
    start = time.monotonic()

    def ask(number: int) -> None:
        own, turn = Client(client.port), number
        while time.monotonic() < start + seconds:
            turn += 1
            began = time.perf_counter()
            try:
                answer = own.post(bodies[turn % len(bodies)])
            except OSError:
                own.close()
                found["lost"] += 1
                continue
            times.append(time.perf_counter() - began)
            found["requests"] += 1
            found["wrong"] += answer != expected[turn % len(bodies)]
        own.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 2)
    halfway = resident_mb(client.pid)
    for thread in threads:
        thread.join()
    end = resident_mb(client.pid)
    extra: dict[str, Any] = {name: found[name] for name in ("requests", "lost", "wrong")}
    extra["memory growth"] = (end - halfway) / halfway if end and halfway else None
    return statistics.median(times), end, extra


def resident_mb(pid: int) -> float | None:
    """MiB of a process and all below it, each its share of what they share; None where the system does not say."""
    try:
        parents: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                parents.setdefault(_parent(entry), []).append(int(entry.name))
        return sum(_share_kib(one) for one in _below(pid, parents)) / 1024
    except OSError:
        return None


def _below(pid: int, children: Mapping[int, Sequence[int]]) -> Iterator[int]:
    yield pid
    for child in children.get(pid, ()):
        yield from _below(child, children)


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):  # it has ended meanwhile
        return 0


def _share_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def variants(method: str, example: Any, count: int = 16) -> list[bytes]:
    """Bodies of different requests, made of the version's own example."""
    (row,) = json_rows(example)
    rows = [dict(row) for _ in range(count)]
    for i, one in enumerate(rows):
        if method == "splice" and i % 2:
            one.clear()
            one["text"] = ("a dog", "a train and a tent", "the sun", "a red background")[i % 4]
        elif method == "harsanyi":
            one.update({name: value * (1 + i / 100) for name, value in one.items() if isinstance(value, float)})
        elif method == "perturbation":
            one["target"] = str(i % 10)
        elif method == "milan":
            one["unit"] = i
    return [json.dumps({"dataframe_records": [one]}).encode() for one in rows]


def measure_serving(progress: Callable[[str], None], repeats: int = REPEATS) -> tuple[list[Record], list[Target]]:
    """Medians over `repeats` pairs of calls, taken in turn, of versions in a store of their own.

    The target is about the ONNX version, which the demo makes its champion; the torch one is shown beside it.
    """
    with own_store():
        found = {runtime: _measure(runtime, repeats, progress) for runtime in ("onnx", "torch")}
    records = [
        record
        for runtime, (inside, over_http) in found.items()
        for record in (
            Record(f"one picture, {runtime}", "predict in process", inside),
            Record(f"one picture, {runtime}", "mlflow models serve", over_http, extra={"ratio": over_http / inside}),
        )
    ]
    inside, over_http = found["onnx"]
    name = "served one-picture request, ms (1.3 times predict in process + 3 ms)"
    return records, [Target(name, over_http * 1e3, 1.3 * inside * 1e3 + 3, "max")]


def _measure(runtime: str, repeats: int, progress: Callable[[str], None]) -> tuple[float, float]:
    """Median seconds of `predict` in this process and of the same request over HTTP."""
    import pandas as pd

    from conceptry.evaluation.splice.data import load_images
    from conceptry.registry import load, register

    progress(f"serving with {runtime}: registering and starting the server")
    version = register("splice", {"runtime": runtime}).version
    image = load_images("zoo:emoji-scenes", size=2).images[1].content()
    body, frame = image_request(image), pd.DataFrame({"image": [image]})
    model = load(version.uri)
    seconds: tuple[list[float], list[float]] = ([], [])
    with served(version.uri) as client:
        progress(f"serving with {runtime}: one picture at a time")
        for _ in range(repeats + WARM_UP):
            start = time.perf_counter()
            model.predict(frame)
            between = time.perf_counter()
            status, text = client.post(body)
            end = time.perf_counter()
            assert status == 200, text
            seconds[0].append(between - start)
            seconds[1].append(end - between)
    inside, over_http = (statistics.median(values[WARM_UP:]) for values in seconds)
    return inside, over_http
