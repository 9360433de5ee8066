"""Help: it is printed at once, without the libraries that the work itself needs."""

import subprocess
import sys

from support import environment

EVERY_HELP = """
import sys

HEAVY = {"matplotlib", "mlflow", "numba", "numpy", "onnx", "onnxruntime", "open_clip", "pandas", "PIL", "scipy"}
HEAVY |= {"sklearn", "torch", "torchvision", "transformers"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())

import click
from conceptry.evaluation.cli.app import cli

def commands(command, context):
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            yield from commands(child, click.Context(child, info_name=name, parent=context))

for context in commands(cli, click.Context(cli, info_name="conceptry")):
    arguments = context.command_path.split()[1:] + ["--help"]
    try:
        cli.main(arguments, standalone_mode=False)
    except click.exceptions.Exit:
        pass
    print("helped:", context.command_path)
"""


def test_no_help_of_any_depth_imports_a_heavy_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_HELP], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    helped = {line.removeprefix("helped: conceptry") for line in done.stdout.splitlines() if line.startswith("helped")}
    assert {"", " explain", " register", " register milan", " train encoder", " convert milan"} <= helped
    assert done.stdout.count("Usage: ") == len(helped)
