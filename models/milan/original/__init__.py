"""Names of the published implementation, evandez/neuron-descriptions, so that its examples run with an import changed.

| there | here, in this module |
|---|---|
| `from src import milan, milannotations` | `milan`, `milannotations` |
| `src.exemplars.models.ModelConfig`, `src.utils.hubs.DatasetConfig` | `ModelConfig`, `DatasetConfig` |
| `python3 -m scripts.compute_exemplars MODEL DATASET` | `compute_exemplars("MODEL/DATASET", ...)` |
| `python3 -m scripts.compute_milan_descriptions MODEL DATASET` | `compute_milan_descriptions("MODEL/DATASET")` |

| variable | default | holds |
|---|---|---|
| MILAN_DATA_DIR | data | MILANNOTATIONS as ARCH/DATASET, data sets as DATASET, images of ImageNet in imagenet/val |
| MILAN_MODELS_DIR | models | converted describers as KEY or milan-KEY, weights of networks as MODEL-DATASET.pth |
| MILAN_RESULTS_DIR | results | what is computed: exemplars/MODEL/DATASET, descriptions/MODEL_DATASET.csv |

Nothing is downloaded: a sentence says what is missing, where it comes from and where it goes.
"""

from conceptry.models.milan.original.annotations import TopImagesDataset, load, milannotations
from conceptry.models.milan.original.configs import (
    DatasetConfig,
    DiscriminativeModelExemplarsConfig,
    GenerativeModelExemplarsConfig,
    ModelConfig,
    ModelExemplarsConfig,
    compute_exemplars,
)
from conceptry.models.milan.original.describers import compute_milan_descriptions, milan, pretrained
from conceptry.models.milan.original.folders import data_dir, models_dir, results_dir

__all__ = [
    "DatasetConfig",
    "DiscriminativeModelExemplarsConfig",
    "GenerativeModelExemplarsConfig",
    "ModelConfig",
    "ModelExemplarsConfig",
    "TopImagesDataset",
    "compute_exemplars",
    "compute_milan_descriptions",
    "data_dir",
    "load",
    "milan",
    "milannotations",
    "models_dir",
    "pretrained",
    "results_dir",
]
