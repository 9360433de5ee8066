"""Package, register, list, compare, promote and load explainers through MLflow."""

from conceptry.registry.comparison import Comparison, compare
from conceptry.registry.flavor import load_model, log_model, save_model
from conceptry.registry.integrity import verify
from conceptry.registry.promotion import Promotion, Requirement, promote, promotions
from conceptry.registry.registration import Registration, register
from conceptry.registry.store import connect
from conceptry.registry.versions import Version, find_version, list_versions, load, registered_names

__all__ = [
    "Comparison",
    "Promotion",
    "Registration",
    "Requirement",
    "Version",
    "compare",
    "connect",
    "find_version",
    "list_versions",
    "load",
    "load_model",
    "log_model",
    "promote",
    "promotions",
    "register",
    "registered_names",
    "save_model",
    "verify",
]
