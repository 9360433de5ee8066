"""Kills: commands that are ended by SIGKILL at random moments, and what can be seen of them afterwards.

Each kill begins a command of its own kind in a process of its own, ends it at a moment drawn between its start and the
time that it takes undisturbed, looks at what `conceptry list`, `show`, `compare` and the folders of results hold, and
runs the same command again. At the end `conceptry gc --delete` runs, and everything that is left is counted: in the
store, in the folder for temporary files, in the cache and beside the results, whoever wrote it.

Processes are forked from one that has imported the libraries, so that moments fall into the work of a command rather
than into its imports.
"""

import atexit
import contextlib
import io
import itertools
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target
from conceptry.models.errors import ConceptryError

KILLS, QUICK_KILLS = 100, 12
LIBRARIES = (
    "conceptry.evaluation.harness", "conceptry.evaluation.tables", "conceptry.evaluation.harsanyi.harness",
    "conceptry.evaluation.units.describe", "conceptry.evaluation.units.sources", "conceptry.registry.remains",
    "conceptry.evaluation.training.classifiers", "conceptry.models.harsanyi.pyfunc", "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store",
)  # fmt: skip
_REGISTER = ("register", "harsanyi", "--model", "zoo:wine")
_EXEMPLARS = ("exemplars", "zoo:scenes", "--layer", "layer3", "--size", "60", "--k", "3", "--device", "cpu")


@dataclass
class Kind:
    """A kind of command: its words for the number of a kill, and what is half done after that kill, in words."""

    name: str
    words: Callable[[int], Sequence[str]]
    check: Callable[[int], list[str]]
    seconds: float = 0.0
    killed: int = 0
    too_late: int = 0
    half: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, int]:
        """What the table shows: `over before` counts commands that had ended when they were to be killed."""
        numbers = (self.killed, self.too_late, len(self.half), len(self.failed))
        return dict(zip(("killed", "over before", "half", "not repeated"), numbers, strict=True))


def run(
    dictionary: Path | None = None,
    quick: bool = False,
    progress: Callable[[str], None] = print,
    kills: int | None = None,
    seed: int = 0,
) -> Benchmark:
    """Kill `kills` commands in a store of their own. `dictionary` says nothing here: other benchmarks take one.

    Raises ConceptryError on systems that cannot fork, and where a command fails that nobody has killed.
    """
    if sys.platform != "linux":
        raise ConceptryError("kills are measured on Linux alone, where processes can be forked safely")
    number = kills or (QUICK_KILLS if quick else KILLS)
    with _own_place() as place:
        kinds = _kinds()
        _prepare(kinds, progress)
        draw = random.Random(seed)
        tried = 0
        while (killed := sum(kind.killed for kind in kinds)) < number and tried < 3 * number:
            kind = kinds[tried % len(kinds)]
            tried, moment = tried + 1, draw.uniform(0.0, kind.seconds)
            progress(f"kill {killed + 1} of {number}: {kind.name} after {moment:.2f} s of {kind.seconds:.2f} s")
            _one_kill(kind, tried, moment)
        found = _completed(("gc", ".", "--older-than", "0s"))[1]
        removed = _completed(("gc", ".", "--older-than", "0s", "--delete"))[1]
        orphans = _in_child(lambda: _orphans(place))
    return _result(kinds, seed, found, removed, orphans)


def _result(kinds: Sequence[Kind], seed: int, found: str, removed: str, orphans: Sequence[str]) -> Benchmark:
    records = [Record(kind.name, "undisturbed", kind.seconds, extra=kind.counts) for kind in kinds]
    half = [f"half done: {text}" for kind in kinds for text in kind.half]
    failed = [f"not repeated: {text}" for kind in kinds for text in kind.failed]
    listed, gone = (len(re.findall(f"^{word}: ", text, re.M)) for word, text in (("left", found), ("removed", removed)))
    notes = [f"seed {seed}; gc listed {listed} things and removed {gone}"]
    notes += half + failed + [f"orphan: {text}" for text in orphans]
    targets = [
        Target(f"half done after {sum(kind.killed for kind in kinds)} kills", len(half), 0, "max"),
        Target("commands that did not succeed next", len(failed), 0, "max"),
        Target("orphans after gc", len(orphans), 0, "max"),
    ]
    return Benchmark("kills", records, targets, notes)


@contextlib.contextmanager
def _own_place() -> Iterator[Path]:
    """A folder with a store, a cache and temporary files of its own, in which commands run."""
    names = ("MLFLOW_TRACKING_URI", "CONCEPTRY_CACHE", "TMPDIR")
    before, folder = {name: os.environ.get(name) for name in names}, os.getcwd()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary).resolve()
        for name in ("cache", "temporary", "work"):
            (place / name).mkdir()
        values = (f"sqlite:///{place / 'work' / 'mlflow.db'}", str(place / "cache"), str(place / "temporary"))
        os.environ |= dict(zip(names, values, strict=True))
        os.chdir(place / "work")
        try:
            yield place
        finally:
            os.chdir(folder)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def _kinds() -> list[Kind]:
    def registered(k: int) -> list[str]:
        return [*_REGISTER, "--name", "killed", "--temperature", str(1 + k / 1000)]

    return [
        Kind("register", registered, lambda k: _in_child(_half_versions)),
        Kind("evaluate", lambda k: ["evaluate", "base/1", "--size", str(3 + k)], lambda k: _in_child(_half_versions)),
        Kind("promote", lambda k: ["promote", "base", str(1 + k % 2)], lambda k: _in_child(_half_promotions)),
        Kind(
            "exemplars",
            lambda k: [*_EXEMPLARS, "--output", f"exemplars-{k}"],
            lambda k: _in_child(lambda: _half_exemplars(Path(f"exemplars-{k}"))),
        ),
        Kind(
            "describe",
            lambda k: ["describe", "--describer", "zoo:emoji-milan", "--exemplars",
                       str(_results(Path("exemplars-0"))), "--output", f"described-{k}", "--device", "cpu"],
            lambda k: _in_child(lambda: _half_descriptions(Path(f"described-{k}"))),
        ),
        Kind(
            "train",
            lambda k: ["train", "classifiers", "--data", "wine", "--small", "--output", f"trained-{k}"],
            lambda k: _half_training(Path(f"trained-{k}")),
        ),
    ]  # fmt: skip


def _prepare(kinds: Sequence[Kind], progress: Callable[[str], None]) -> None:
    """Import, register two versions, and run each command once undisturbed."""
    import importlib

    for library in LIBRARIES:
        importlib.import_module(library)
    for temperature in ("1.0", "2.0"):
        progress(f"registering base, temperature {temperature}")
        _succeed([*_REGISTER, "--name", "base", "--temperature", temperature])
    for kind in kinds:
        progress(f"{kind.name}: undisturbed")
        start = time.perf_counter()
        _succeed(kind.words(0))
        kind.seconds = time.perf_counter() - start
        if wrong := kind.check(0):
            raise ConceptryError(f"{kind.name}: {wrong[0]}, though nobody has killed it")


def _one_kill(kind: Kind, k: int, moment: float) -> None:
    words = kind.words(k)
    pid, start = _start(words, Path("said.txt")), time.perf_counter()
    while not (ended := os.waitpid(pid, os.WNOHANG)[0]) and time.perf_counter() - start < moment:
        time.sleep(0.002)
    if ended:
        kind.too_late += 1
        kind.seconds = time.perf_counter() - start  # the first time, caches were filled
    else:
        kind.killed += 1
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    kind.half += [f"{kind.name}, kill {k} at {moment:.2f} s: {text}" for text in kind.check(k)]
    code, text = _completed(words)
    exists = kind.name == "train" and "exists already" in text  # it had been written as a whole just before
    if code and not exists:
        kind.failed.append(f"{kind.name}, kill {k} at {moment:.2f} s: exit {code}: {(text.splitlines() or [''])[-1]}")
    else:
        kind.half += [f"{kind.name}, repeated after kill {k}: {text}" for text in kind.check(k)]


def _start(words: Sequence[str], output: Path) -> int:
    """Run a command in a forked process, as if it had been started by itself; return the number of the process."""
    pid = os.fork()
    if pid:
        return pid
    atexit._clear()  # those of the process that forked are its own
    code = 1
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        tempfile.tempdir = None
        from conceptry.evaluation.cli.app import main
        from conceptry.models.folders import take_temporary_folder

        take_temporary_folder()
        main(list(words))
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        atexit._run_exitfuncs()
        os._exit(code)


def _completed(words: Sequence[str]) -> tuple[int, str]:
    """Exit code and output of a command that runs to its end."""
    output = Path("said.txt")
    _, status = os.waitpid(_start(words, output), 0)
    return os.waitstatus_to_exitcode(status), output.read_text(encoding="utf-8", errors="replace").strip()


def _succeed(words: Sequence[str]) -> None:
    code, text = _completed(words)
    if code:
        raise ConceptryError(f"conceptry {' '.join(words)}: exit {code}: {(text.splitlines() or [''])[-1]}")


def _in_child(check: Callable[[], list[str]]) -> list[str]:
    """What a check finds, made in a forked process: this one must open no store that others are to inherit."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                lines = check()
        except BaseException as error:  # what cannot be checked is not right
            lines = [f"{type(error).__name__}: {error}"]
        os.write(writing, "\n".join(line.replace("\n", " ")[:300] for line in lines[:50]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    return text.splitlines()


def _half_versions() -> list[str]:
    """Versions that are listed, but not whole: their files, their run, their metrics, or what they are shown with."""
    from conceptry.evaluation.reports import report_table
    from conceptry.evaluation.tables import version_tables
    from conceptry.registry import compare, list_versions, promotions, registered_names, verify

    wrong, versions = [], list_versions()
    for version in versions:
        try:
            verify(version)
            version_tables(version, promotions(version.name))
        except Exception as error:
            wrong.append(f"{version.uri}: {error}")
        sets = {frozenset(measured.metrics) for measured in version.measured}
        if len(sets) > 1:
            wrong.append(f"{version.uri}: measured by {len(sets)} different sets of metrics")
        wrong += [
            f"{version.uri}: no table of {measured.data}"
            for measured in version.measured
            if report_table(version, str(measured.data), str(measured.digest), "patterns") is None
        ]
    if len({(version.name, version.fingerprint) for version in versions}) < len(versions):
        wrong.append("one explainer is registered twice")
    for name in registered_names():
        compare(name)
    return wrong


def _half_promotions() -> list[str]:
    from conceptry.registry import list_versions, promotions

    history = promotions("base")
    chained = all(after.previous == before.version for before, after in itertools.pairwise(history))
    champion = next((version.version for version in list_versions("base") if "champion" in version.aliases), None)
    last = history[-1].version if history else None
    return [] if chained and champion == last else [f"champion is {champion}, the history says {history}"]


def _results(folder: Path) -> Path:
    """The folder of exemplars that the command writes below its output."""
    from conceptry.models.milan.exemplars.records import results_directory

    return results_directory(folder, "zoo:scenes", "zoo:emoji-scenes")


def _half_exemplars(folder: Path) -> list[str]:
    from conceptry.models.manifest import read_json
    from conceptry.models.milan.exemplars.checkpoint import RECORD
    from conceptry.models.milan.exemplars.records import read_results

    results = _results(folder)
    if not (results / RECORD).is_file():
        return []
    recorded = read_json(results / RECORD)["layers"]
    found = read_results(results) if recorded else {}
    return [f"{layer} is recorded, and has no units" for layer in recorded if not len(found.get(layer, ()))]


def _half_descriptions(folder: Path) -> list[str]:
    from conceptry.evaluation.units.folder import read_folder

    known = read_folder(folder)
    if known is None:
        return []
    units = known.with_strips(known.units())
    missing = [page.file for page in known.pages.values() if not (folder / page.file).is_file()]
    return [f"{name} is missing" for name in missing] + ["a layer without units"] * (bool(known.pages) and not units)


def _half_training(folder: Path) -> list[str]:
    if not folder.exists():
        return []
    there = {path.name for path in folder.rglob("*") if path.is_file()}
    return [] if "provenance.json" in there else [f"{folder} holds {', '.join(sorted(there)) or 'nothing'}"]


def _orphans(place: Path) -> list[str]:
    """Everything that nobody needs: seen by MLflow's searches and in the folders, not by the means of gc."""
    from mlflow import MlflowClient

    from conceptry.registry.tags import FINGERPRINT

    client = MlflowClient()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    versions = client.search_model_versions()
    runs = client.search_runs(experiments, max_results=5000)
    used = {version.run_id for version in versions}
    found = [f"run {run.info.run_id} is {run.info.status}" for run in runs if run.info.status != "FINISHED"]
    trained = {run.info.run_id for run in runs if FINGERPRINT not in run.data.tags}
    found += [f"run {run.info.run_id} has no version" for run in runs if run.info.run_id not in used | trained]
    models = {model.model_id for model in client.search_logged_models(experiments, max_results=1000)}
    used_models = {str(version.source).removeprefix("models:/") for version in versions}
    found += [f"logged model {name} has no version" for name in models - used_models]
    known = models | {run.info.run_id for run in runs}
    folders = [path for path in (place / "work" / "mlruns").rglob("*") if re.fullmatch("(m-)?[0-9a-f]{32}", path.name)]
    found += [f"artifacts of {path.name}" for path in folders if path.is_dir() and path.name not in known]
    found += [f"temporary {path.name}" for path in (place / "temporary").iterdir()]
    partial = re.compile(r".*(\.part|\.partial|\.tmp\.[0-9a-f]+|\.tmp)")
    found += [f"file {path}" for path in place.rglob("*") if partial.fullmatch(path.name)]
    return found
