"""From options to a self-contained folder: artifacts with digests, the code to serve them, pinned requirements."""

import hashlib
import importlib.metadata
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import conceptry.models
from conceptry.models.errors import InputError
from conceptry.models.folders import temporary_folder
from conceptry.models.manifest import MANIFEST, digest_of_files, files_in, read_json, write_manifest
from conceptry.models.method import Method, Package
from conceptry.registry.tags import CONTENT, DIGITS


@dataclass(frozen=True)
class StagedPackage:
    """A package ready to be logged, with what its method says of it.

    directory: artifacts; code: a folder that holds `conceptry/models`; entry: the file MLflow starts from;
    fingerprint: what identifies the version: equal artifacts, hyperparameters and code give an equal fingerprint;
    max_work: the most that a server of the version does for one request, None for what its method says.
    """

    method: Method
    about: Package
    directory: Path
    code: Path
    entry: Path
    manifest_sha256: str
    code_sha256: str
    fingerprint: str
    max_work: int | None = None

    def digests(self) -> dict[str, str]:
        """SHA-256 by file of the package."""
        return {name: entry["sha256"] for name, entry in read_json(self.directory / MANIFEST)["files"].items()}


@contextmanager
def stage_package(
    method: Method, write: Callable[[Path], Package], max_work: int | None = None
) -> Iterator[StagedPackage]:
    """Have `write` write a package into a temporary folder, which is gone afterwards, and stage its code beside it.

    Raises InputError for a `max_work` below 1.
    """
    if max_work is not None and max_work < 1:
        raise InputError(f"max_work must be at least 1, got {max_work}")
    with temporary_folder("package") as folder:
        directory, code = folder / "package", folder / "code"
        entry = folder / f"{method.name}_explainer.py"
        directory.mkdir()
        about = write(directory)
        # Of what a name stands for now: it may stand for something else in the next version.
        digests = {f"{name}{CONTENT}": digest[:DIGITS] for name, digest in about.contents.items()}
        about = replace(about, params={**about.params, **digests})
        if max_work is not None:  # a hyperparameter as others are: versions can differ in it alone
            about = replace(about, params={**about.params, "max_work": max_work})
        manifest_sha256 = write_manifest(directory)
        entry.write_text(method.entry_point(manifest_sha256), encoding="utf-8")
        code_sha256 = stage_code(code)
        identity = json.dumps([method.name, dict(about.params), manifest_sha256, code_sha256], sort_keys=True)
        fingerprint = hashlib.sha256(identity.encode()).hexdigest()
        yield StagedPackage(method, about, directory, code, entry, manifest_sha256, code_sha256, fingerprint, max_work)


def stage_code(target: Path) -> str:
    """Copy the source of `conceptry.models` under `target/conceptry/models`; return a digest of it.

    Serving needs nothing else: neither the registry nor the harness, nor the weights of the zoo, which a package
    holds already. MLflow's own `infer_code_paths` finds none of this.
    """
    source = Path(conceptry.models.__file__).parent
    for path in _sources(source):
        copy = target / "conceptry" / "models" / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    return code_digest(target / "conceptry" / "models")


def code_digest(source: Path | None = None) -> str:
    """A SHA-256 over all source files of `conceptry.models`, of the installed one where no folder is given."""
    source = source or Path(conceptry.models.__file__).parent
    return digest_of_files(source, _sources(source))


def _sources(folder: Path) -> list[Path]:
    """The source files that serving needs: a network that is trained anew changes no version's code."""
    return [p for p in files_in(folder) if p.suffix == ".py" and p.relative_to(folder).parts[0] != "training"]


def pinned(distributions: Sequence[str]) -> list[str]:
    """Pip requirements with the versions installed here; MLflow itself comes first.

    A local build such as 2.9.0+cu130 is on no index, so the part after the plus is left out.
    """
    requirements = []
    for name in ("mlflow", *distributions):
        if name == "onnxruntime":
            name = _onnxruntime()
        requirements.append(f"{name}=={importlib.metadata.version(name).split('+')[0]}")
    return requirements


def _onnxruntime() -> str:
    """The distribution installed here: onnxruntime-gpu, or the one without CUDA, as macOS has it."""
    try:
        importlib.metadata.version("onnxruntime-gpu")
    except importlib.metadata.PackageNotFoundError:
        return "onnxruntime"
    return "onnxruntime-gpu"
