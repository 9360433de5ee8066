"""The `conceptry` command: `app.py` is the group, the other modules its commands.

Importing any of them imports neither torch nor MLflow.
"""

from typing import Any

from conceptry._former import name_of


def __getattr__(name: str) -> Any:
    return name_of(__name__, name)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; exits with 0, 1 (refused) or 2 (misuse)."""
    from conceptry.evaluation.cli.app import main as run

    run(arguments)
