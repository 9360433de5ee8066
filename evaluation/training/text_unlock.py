"""Learn the map of a classifier's features into the space of texts, write down how it was made, and log the run.

Agreement is measured on a fifth of the images, which has a part in nothing; `conceptry.models.training.text_unlock` has
the formulas.
"""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conceptry.evaluation.progress import bar
from conceptry.evaluation.training.tracking import LOG_EVERY, circumstances, command_line, tracked
from conceptry.models.encoders.text_unlock import shortfall
from conceptry.models.encoders.token_vectors import SHA256
from conceptry.models.errors import InputError
from conceptry.models.explained.base import without_folders
from conceptry.models.explained.load import load_explained
from conceptry.models.explained.source import UNSAID, OwnPreparation
from conceptry.models.folders import check_new, new_folder
from conceptry.models.images import image_files
from conceptry.models.manifest import digest_of_files, write_json
from conceptry.models.milan.settings import INPUT_SIZE
from conceptry.models.training.photos import CLASSIFIER
from conceptry.models.training.text_unlock import TextUnlockTraining, build_text_unlock, check_classifier

DEFINITIONS = {
    "agreement": "share of held-out images whose nearest class text is the class that the classifier finds",
    "agreement_conse": "the same by ConSE, the mixture of the classifier's ten best classes, which learns nothing",
    "agreement_constant": "share of held-out images of the class that the classifier finds most often among them",
    "held_out": "images that had no part in learning, nor in when to stop",
}
_PACKAGES = ("numpy", "pillow", "safetensors", "tokenizers", "torch", "torchvision", "wordllama")


def run(
    model: str,
    images: Path,
    settings: TextUnlockTraining,
    directory: Path,
    *,
    said: OwnPreparation = UNSAID,
    device: str = "auto",
    tracking: bool = True,
    command: str | None = None,
) -> dict[str, Any]:
    """Learn the map of `model` from the images below a folder, write the encoder's folder, and return its provenance.

    model: name of an image classifier. said: what the user says of it. directory: must not exist. tracking: log
    settings, losses, agreement and provenance to MLflow's experiment `conceptry/train`. command: what to record as the
    way to repeat it. Raises InputError where `directory` exists, and as `build_text_unlock` does.
    """
    check_new(directory)
    files = image_files(Path(images))
    classifier = check_classifier(said.applied(load_explained(model, device), INPUT_SIZE))
    params = {"model": without_folders(model), **asdict(settings)}
    with (
        new_folder(directory) as partial,
        tracked("text-unlock", params, tracking) as log,
        bar("learning the map") as show,
    ):
        started = time.perf_counter()

        def on_step(step: int, values: dict[str, float]) -> None:
            show(f"step {step} of {settings.steps}, loss {values['loss']:.3f}", step / settings.steps)
            if len(values) > 1 or step % LOG_EVERY == 0 or step in (1, settings.steps):
                log.losses(step, values)

        learnt = build_text_unlock(classifier, files, settings, partial, show, on_step)
        seconds = time.perf_counter() - started
        provenance = {
            **circumstances(partial, _PACKAGES, seconds),
            "settings": asdict(settings),
            "model": without_folders(model),
            "model_sha256": classifier.lineage["explained_sha256"],
            "preparation": said.to_record()["preparation"],
            "data": f"{len(files)} images of the user, without labels",
            "data_sha256": {"images": digest_of_files(Path(images), files)} | SHA256,
            "scores": learnt.figures,
            "score_definitions": DEFINITIONS,
            "below_conse": learnt.agreement < learnt.agreement_conse,
            "below_constant": learnt.agreement < learnt.agreement_constant,
            "command": command or "conceptry.evaluation.training.text_unlock.run",
        }
        write_json(partial / "provenance.json", provenance)
        log.finish(learnt.figures, partial / "provenance.json")
    return provenance


def train_command(
    output: Path,
    images: Path | None,
    model: str | None,
    said: OwnPreparation = UNSAID,
    device: str = "auto",
    **chosen: int | None,
) -> str:
    """What `conceptry train photos --images` does; returns what to print. None keeps the default of a setting."""
    if images is None:
        raise InputError(
            "--model, --steps, --seed, --device and what is said of a network belong to a map; give --images FOLDER"
        )
    model = model or CLASSIFIER
    given = {name: value for name, value in chosen.items() if value is not None}
    options = {"images": "FOLDER", "model": without_folders(model)} | given
    options |= {"classes": "FILE" if said.classes else None, **_options_of(said)}
    settings = TextUnlockTraining(**given)
    provenance = run(model, images, settings, output, said=said, device=device, command=command_line("photos", options))
    scores = provenance["scores"]
    lines = [
        f"agreement with {provenance['model']} on {scores['held_out']} held-out images",
        *(f"  {what:34}{scores[name]:8.3f}" for what, name in _SAID),
        f"saved {output}: use it as textunlock:{output}",
    ]
    if warning := shortfall(scores, output):
        lines.append(f"warning: {warning}")
    return "\n".join(lines)


_SAID = (
    ("the map", "agreement"),
    ("ConSE, which learns nothing", "agreement_conse"),
    ("its commonest class, always", "agreement_constant"),
)


def _options_of(said: OwnPreparation) -> dict[str, str | None]:
    """What a user said of a network's images, as options of the command."""
    known = said.to_record()["preparation"] or {}
    texts = {name: ",".join(map(str, known[name])) for name in ("mean", "std") if name in known}
    if "size" in known:
        texts[INPUT_SIZE] = "x".join(map(str, known["size"]))
    return {**texts, "preprocessing": said.preprocessing}
