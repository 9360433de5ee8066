"""The commands of `conceptry` and what some share; importing them imports neither torch nor MLflow."""
