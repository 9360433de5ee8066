"""`conceptry ui`: MLflow's own pages over the store in use, on the page that shows versions."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import quote

import click

from conceptry.evaluation.cli.options import NamedArgument, command, say
from conceptry.models.errors import ConceptryError, InputError

HOST = "127.0.0.1"
MODE = "?workflowType=machine_learning"  # without it MLflow opens for generative AI, whose menu lacks the registry
PATIENCE = 300  # seconds for the server to answer; it imports for some, and on a busy machine for many


@command()
@click.argument("uri", metavar="[URI]", required=False, cls=NamedArgument, option="--uri")
@click.option("--port", type=click.IntRange(1, 65535), default=5000, help="Port on this machine.")
@click.option(
    "--open/--no-open", "browser", default=None, help="Open a browser. [default: where there is a display to show it]"
)
def ui(uri: str | None, port: int, browser: bool | None) -> None:
    """Start MLflow's UI over the store in use, and open it on the versions of explainers.

    URI is a registered model, NAME, or one version, NAME/NUMBER or NAME@ALIAS. Without it the page lists all models.
    Where the store is a server, its own UI is opened. Ctrl-C stops it.
    """
    import mlflow

    from conceptry.registry.store import connect

    connect()
    page = _page(uri)
    store = mlflow.get_tracking_uri()
    scheme = store.partition(":")[0]
    if scheme.startswith(("databricks", "uc")):
        raise InputError(f"{scheme} has a UI of its own; open the workspace in a browser")
    if scheme in ("http", "https"):
        _show(f"{store.rstrip('/')}/{page}", browser)
        return
    stores = {"MLFLOW_BACKEND_STORE_URI": store, "MLFLOW_REGISTRY_STORE_URI": mlflow.get_registry_uri()}
    try:
        with _server(port, stores) as server:
            _show(f"http://{HOST}:{port}/{page}", browser)
            say("Ctrl-C stops it", style="dim")
            code = server.wait()
    except KeyboardInterrupt:
        return
    raise ConceptryError(f"MLflow's server ended by itself, with code {code}; its own lines above say why")


def _page(uri: str | None) -> str:
    """The part of the address that leads to all models, to one or to a version. Raises InputError where it is none."""
    from conceptry.registry import find_version
    from conceptry.registry.versions import versions_of

    if uri is None:
        return f"#/models{MODE}"
    name = uri.removeprefix("models:/")
    if "/" in name or "@" in name:
        version = find_version(uri)
        return f"#/models/{quote(version.name, safe='')}/versions/{version.version}{MODE}"
    versions_of(name)
    return f"#/models/{quote(name, safe='')}{MODE}"


def _show(address: str, browser: bool | None) -> None:
    """Print an address, and open it in a browser: None for yes where one could be seen."""
    say(address)
    if browser is None:
        browser = sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    if browser and not webbrowser.open(address):
        say("no browser could be started here; open the address in one")


@contextmanager
def _server(port: int, stores: Mapping[str, str]) -> Iterator[subprocess.Popen]:
    """MLflow's server, from when it answers to the end of the block; a signal to end is a KeyboardInterrupt in it.

    stores: variables that name the stores; as arguments, their passwords would be seen in lists of processes.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(f"--port {port} cannot be used ({error.strerror}); choose another") from None
    # Of what it does besides, jobs for generative AI take five processes.
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_UVICORN_OPTS": "--log-level warning"}
    server = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"],
        env={**quiet, **os.environ, **stores},
        start_new_session=True,  # so that all of its processes can be ended together
    )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _wait_for(server, port)
        yield server
    finally:
        signal.signal(signal.SIGTERM, before)
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _wait_for(server: subprocess.Popen, port: int) -> None:
    """Return once the server answers. Raises ConceptryError where it ends before that, or takes too long."""
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=5):
            return
        time.sleep(0.2)
    if server.poll() is None:
        raise ConceptryError(f"MLflow's server did not answer on port {port} within {PATIENCE} seconds")
    raise ConceptryError(f"MLflow's server ended with code {server.returncode}; its own lines above say why")
