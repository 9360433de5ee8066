"""Where the published implementation looks for data, models and results."""

import os
from pathlib import Path


def data_dir() -> Path:
    """MILAN_DATA_DIR, by default ./data."""
    return Path(os.environ.get("MILAN_DATA_DIR") or "data")


def models_dir() -> Path:
    """MILAN_MODELS_DIR, by default ./models."""
    return Path(os.environ.get("MILAN_MODELS_DIR") or "models")


def results_dir() -> Path:
    """MILAN_RESULTS_DIR, by default ./results."""
    return Path(os.environ.get("MILAN_RESULTS_DIR") or "results")
