"""The harness: data sets, metrics, reports, benchmarks and the command line."""
