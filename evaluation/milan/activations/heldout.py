"""Pictures of a folder that chose nothing: none of them is among those that a version's exemplars were chosen from."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from conceptry.evaluation.data import draw_sample
from conceptry.evaluation.milan.activations.seen import SeenImages
from conceptry.models.errors import InputError, plural
from conceptry.models.images import image_files
from conceptry.models.manifest import sha256_file
from conceptry.models.milan.exemplars.sources import FolderSource

LEAST, MOST = 50, 2048  # pictures; of fewer the most active 2 % are no sample


def heldout_images(root: Path, params: Mapping[str, str], seed: int) -> tuple[FolderSource, list[str]]:
    """A draw of the pictures below `root` that chose nothing, and notes on what was left out or could not be told.

    params: hyperparameters of the version, of which `data` says what its exemplars were chosen from. Pictures are the
    same where their files are. Raises InputError where too few are left.
    """
    files, notes = image_files(root), []
    data = params.get("data", "")
    scheme, _, chosen = data.partition(":")
    kept = files
    if scheme == "folder" and Path(chosen).is_dir():
        known = _Files(image_files(Path(chosen)))
        kept = [file for file in kept if file not in known]
        if left_out := len(files) - len(kept):
            notes.append(f"{plural(left_out, 'picture')} of {root} left out: exemplars were chosen from {data}")
    elif scheme != "zoo":
        notes.append(
            f"exemplars were chosen from {data or 'unknown data'}, which cannot be read here: whether the pictures of "
            f"{root} are among them is not known"
        )
    if len(kept) < LEAST:
        raise InputError(
            f"folder:{root}: holds {plural(len(kept), 'picture')} that exemplars were not chosen from; expected "
            f"{LEAST} or more"
        )
    return FolderSource(root, files=draw_sample(kept, MOST, seed)), notes


def seen_folder(root: Path, params: Mapping[str, str], encoder: str, seed: int) -> tuple[SeenImages, str]:
    """Such pictures as the dual encoder `encoder` sees them, and the digest of their files.

    Raises InputError where no encoder is named.
    """
    if not encoder:
        raise InputError(
            f"folder:{root}: what its pictures show is estimated by a dual encoder, and the version has none; name one "
            "by --encoder, such as zoo:photos or open_clip:ARCH@FILE"
        )
    source, notes = heldout_images(root, params, seed)
    contents = hashlib.sha256("".join(map(sha256_file, source.files)).encode())
    return SeenImages(source, encoder, notes), contents.hexdigest()


class _Files:
    """Contents of files; only files of equal size are read."""

    def __init__(self, files: list[Path]) -> None:
        self._of_size: dict[int, list[Path]] = {}
        for file in files:
            self._of_size.setdefault(file.stat().st_size, []).append(file)
        self._digests: dict[int, set[str]] = {}

    def __contains__(self, file: Path) -> bool:
        size = file.stat().st_size
        if size not in self._of_size:
            return False
        if size not in self._digests:
            self._digests[size] = {sha256_file(other) for other in self._of_size[size]}
        return sha256_file(file) in self._digests[size]
