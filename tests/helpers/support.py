"""What tests need outside fixtures: where the project is, and the environment of child processes."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
WORDS = (
    *("dog", "cat", "car", "tree", "house", "red", "blue", "green", "apple", "guitar"),
    *("striped", "dotted", "boat", "plane", "chair", "table", "lamp", "phone", "book"),
)


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child process: this interpreter's commands first, no store but the test's."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PYTEST_"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    # The suite's "warnings are errors" must not reach other programs through their own environment.
    return kept | {"PATH": path, "COLUMNS": "120", "MLFLOW_DISABLE_TELEMETRY": "true"} | extra


def is_running(pid: int) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
