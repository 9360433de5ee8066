"""MILAN judged by what it says of units whose concept is known; see `conceptry.evaluation.harness`."""
