"""What a batch costs and survives: two cores beside the best plain loop, memory, kills, corrupt rows, requests."""

from conceptry.evaluation.benchmarks.batch.whole import run as run
