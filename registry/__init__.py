"""Package, log, register, list, compare, promote and load explainers through MLflow."""
