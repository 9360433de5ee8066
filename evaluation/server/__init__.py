"""`conceptry serve`: a version behind HTTP, with limits, a deadline and metrics.

A front process speaks HTTP (`app`) and hands each request to one of several processes that hold the version (`pool`).
Each takes one at a time, so that an answer that takes too long can be stopped by ending its process, and nothing else
ends with it. They answer with MLflow's own scoring function (`conceptry.evaluation.isolation.scoring`).
"""
