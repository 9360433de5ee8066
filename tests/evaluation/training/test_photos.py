"""The encoder of photographs is built again, byte for byte."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from conceptry.evaluation.training import photos
from conceptry.models.errors import InputError
from conceptry.models.manifest import files_in
from conceptry.models.shipped import weights_directory
from conceptry.models.training.photos import PhotosTraining


@pytest.mark.skipif(find_spec("wordllama") is None, reason="the extra photos is not installed")
def test_what_ships_is_what_the_packages_give(tmp_path: Path) -> None:
    photos.run(PhotosTraining(), tmp_path / "photos", False, "conceptry train photos --output FOLDER")
    shipped = weights_directory("photos")
    built = {path.name: path.read_bytes() for path in files_in(tmp_path / "photos")}
    assert built == {path.name: path.read_bytes() for path in files_in(shipped)}


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="k must be a whole number from 1 to 1,000, got 0"):
        PhotosTraining(k=0)
