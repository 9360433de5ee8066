"""Training runs as the command line asks for them: tracked in MLflow, scored on held-out data, with provenance."""
