"""Start a server: a checked copy of the version, the processes that hold it, and HTTP in front of them."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn

from conceptry.evaluation.isolation.launcher import ahead
from conceptry.evaluation.server.app import Metrics, application
from conceptry.evaluation.server.limits import Limits
from conceptry.evaluation.server.pool import Pool
from conceptry.models.errors import InputError
from conceptry.models.folders import temporary_folder
from conceptry.registry import find_version
from conceptry.registry.integrity import checked_copy


def serve(
    uri: str,
    host: str,
    port: int,
    workers: int,
    device: str,
    limits: Limits,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the version `uri` until the process is told to end (SIGINT, SIGTERM), and what it was asked is answered.

    All files of the version are checked before any of its code runs, and it runs from a copy of its own, which no
    later change in the store reaches.

    Raises:
        InputError: for an unknown version, and where the address cannot be had.
        IntegrityError: where a file is not the one that was registered.
        ConceptryError: where the version cannot be loaded.
    """
    with _bound(host, port) as listener, temporary_folder("serve") as folder:
        version = find_version(uri)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the copy is removed
        # As many threads in all as there are cores, so that processes do not wait for one another.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
        ahead()
        copy = checked_copy(version, folder)
        asyncio.run(_serve(version.uri, copy, listener, workers, device, limits, say))


async def _serve(
    title: str,
    copy: Path,
    listener: socket.socket,
    workers: int,
    device: str,
    limits: Limits,
    say: Callable[[str], None],
) -> None:
    metrics = Metrics()
    async with Pool(copy, device, workers, metrics.restarts.inc) as pool:
        (device_in_use,) = {worker.device for worker in pool.workers}
        host, port = listener.getsockname()[:2]
        say(f"serving {title} on http://{f'[{host}]' if ':' in host else host}:{port} ({device_in_use})")
        # uvicorn ends in order at these, and raises them again afterwards, when there is nothing left to end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: None)
        await http_server(pool, limits, metrics, title).serve(sockets=[listener])


def http_server(pool: Pool, limits: Limits, metrics: Metrics, title: str) -> uvicorn.Server:
    """The server in front of a running pool."""
    config = uvicorn.Config(
        application(pool, limits, metrics, title),
        http="h11",  # the one that is always there, so that every installation refuses the same
        lifespan="off",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_graceful_shutdown=int(limits.seconds) + 1,
    )
    return uvicorn.Server(config)


def _bound(host: str, port: int) -> socket.socket:
    """A socket on the address, which does not listen yet. Raises InputError where it cannot be had."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--host {host} --port {port}: nothing can listen there ({reason}); choose others") from None
    return listener
