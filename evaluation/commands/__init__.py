"""Commands of `conceptry` beyond the registry's own, one file each; importing one imports neither torch nor MLflow."""
