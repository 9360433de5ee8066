"""`python -m conceptry` is the command `conceptry`."""

from conceptry.evaluation.cli import main

main()
