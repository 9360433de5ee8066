"""Side-by-side measurements that every benchmark shares: time, peak memory, targets, their table and JSON."""

import itertools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from conceptry.models.errors import InputError

MIB = 2**20


@dataclass(frozen=True)
class Record:
    """One implementation on one case; `seconds` for the whole case, None for what was not measured."""

    case: str
    implementation: str
    seconds: float | None
    peak_mb: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "implementation": self.implementation,
            "seconds": self.seconds,
            "peak_mb": self.peak_mb,
            **self.extra,
        }


@dataclass(frozen=True)
class Target:
    """A promise about a measured value: at most (direction "max") or at least ("min") the limit."""

    name: str
    value: float | None
    limit: float
    direction: Literal["max", "min"]

    @property
    def met(self) -> bool | None:
        """None where the value was not measured."""
        if self.value is None:
            return None
        return self.value <= self.limit if self.direction == "max" else self.value >= self.limit

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "limit": self.limit,
            "direction": self.direction,
            "met": self.met,
        }


@dataclass(frozen=True)
class Benchmark:
    """What one benchmark found; `notes` say on what, and what is missing."""

    title: str
    records: list[Record]
    targets: list[Target]
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> str:
        content = {
            "title": self.title,
            "notes": self.notes,
            "records": [r.to_dict() for r in self.records],
            "targets": [t.to_dict() for t in self.targets],
        }
        return json.dumps(content, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Benchmark":
        """What `to_json` has written."""
        content = json.loads(text)
        own = ("case", "implementation", "seconds", "peak_mb")
        records = [
            Record(*(r[name] for name in own), extra={k: v for k, v in r.items() if k not in own})
            for r in content["records"]
        ]
        targets = [Target(**{k: v for k, v in t.items() if k != "met"}) for t in content["targets"]]
        return cls(content["title"], records, targets, content["notes"])

    def print(self, console: Any = None) -> None:
        """Tables by rich: one for the records of each subject (a case up to its first comma), then the targets."""
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table

        console = console or Console()
        console.print(self.title)
        for _, group in itertools.groupby(self.records, lambda r: r.case.partition(",")[0]):
            records = list(group)
            columns = list(dict.fromkeys(name for r in records for name in r.extra))
            table = Table(box=SIMPLE_HEAD, header_style="")
            for name in ("case", "implementation", "ms", "peak MiB", *columns):
                table.add_column(name, justify="left" if name in ("case", "implementation") else "right")
            for r in records:
                ms = None if r.seconds is None else r.seconds * 1e3
                values = (ms, r.peak_mb, *(r.extra.get(name) for name in columns))
                table.add_row(r.case, r.implementation, *map(_shown, values))
            console.print(table)
        table = Table(title="Targets", box=SIMPLE_HEAD, header_style="")
        for name in ("target", "value", "limit", "met"):
            table.add_column(name)
        for t in self.targets:
            limit = f"{'<=' if t.direction == 'max' else '>='} {t.limit:g}"
            met = {True: "yes", False: "NO", None: "not measured"}[t.met]
            table.add_row(t.name, _shown(t.value), limit, met)
        console.print(table)
        for note in self.notes:
            console.print(note)


class Ledger:
    """What a long benchmark has measured so far, a line of JSON for each part, so that a killed run can go on.

    path: the file, None to keep nothing. owner: what the run is; a file of another one is refused by InputError.
    """

    def __init__(self, path: Path | None, owner: Mapping[str, Any]) -> None:
        self._path, self._parts = path, {}
        if path is None:
            return
        if path.exists():
            head, *lines = path.read_text(encoding="utf-8").split("\n")
            if head != json.dumps(dict(owner)):
                raise InputError(f"{path} is of another run than {json.dumps(dict(owner))}; name a new file")
            self._parts = dict(json.loads(line) for line in lines[:-1])  # the last is empty, or was cut off by a kill
            path.write_text("\n".join([head, *lines[:-1], ""]), encoding="utf-8")
        else:
            path.write_text(json.dumps(dict(owner)) + "\n", encoding="utf-8")

    def part(self, name: str, measure: Callable[[], Benchmark]) -> Benchmark:
        """A part as it was measured before, else measured now and kept."""
        if name not in self._parts:
            self._parts[name] = measure().to_json()
            if self._path is not None:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([name, self._parts[name]]) + "\n")
        return Benchmark.from_json(self._parts[name])

    def records(self, name: str, measure: Callable[[], Iterable[Record]]) -> list[Record]:
        """The records of a part."""
        return self.part(name, lambda: Benchmark(name, list(measure()), [])).records


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def rounds_side_by_side(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each function in every round: one warm-up each, then all of them in turn, `repeats` times.

    Taking turns spreads a disturbance of the machine over all of them, so ratios hold where times do not.
    """
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def seconds_side_by_side(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each function over the rounds of `rounds_side_by_side`."""
    return {name: statistics.median(values) for name, values in rounds_side_by_side(functions, repeats).items()}


def median_ratio(seconds: Sequence[float], base: Sequence[float]) -> float:
    """Median over the rounds of seconds / base: what two functions that take turns differ by."""
    return statistics.median(s / b for s, b in zip(seconds, base, strict=True))


@contextmanager
def one_thread():
    """One thread for torch and for every BLAS and OpenMP library loaded so far."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def peak_mb(prepare: Callable[..., Callable[[], Any]], *args: Any) -> float | None:
    """MiB by which the resident memory of a fresh process rises while it runs prepare(*args)().

    A process of its own, because the allocators of torch and NumPy are seen by no tracer and keep what was
    freed. `prepare` is a function of a module: it loads the inputs, which are not counted. None if it fails.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_rise, args=(sender, prepare, args))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        return None
    finally:
        process.join()


def _measure_rise(sender: Any, prepare: Callable[..., Callable[[], Any]], args: tuple[Any, ...]) -> None:
    function = prepare(*args)
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if status.exists() and clear.exists():
        clear.write_text("5")  # the high-water mark starts again from the present
        before = _status_kib(status, "VmRSS")
        function()
        rise = (_status_kib(status, "VmHWM") - before) / 1024
    else:
        unit = MIB if sys.platform == "darwin" else 1024
        import resource  # not on Windows

        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        function()
        rise = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / unit
    sender.send(max(rise, 0.0))


def _status_kib(status: Path, name: str) -> int:
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(name))
