"""Processes that hold a version, each answering one request at a time."""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from conceptry.evaluation.isolation import launcher
from conceptry.evaluation.isolation.scoring import Answer
from conceptry.evaluation.isolation.worker import SCORING
from conceptry.models.errors import ConceptryError

logger = logging.getLogger(__name__)
SECONDS_TO_LOAD = 300.0
LONGEST_PAUSE = 30.0


class Stopped(Exception):  # noqa: N818  # by whoever gave the answer up, mostly
    """The process that worked on an answer has ended."""


class Worker:
    """A process that holds the version. Its methods block, but for `stop`."""

    def __init__(self, folder: Path, device: str) -> None:
        """Start the process and wait until it has loaded the version. Raises ConceptryError where it cannot."""
        self._pipe, theirs = Pipe()
        self._child = launcher.start(str(folder), device, theirs.fileno(), sys.stderr.fileno(), SCORING)
        theirs.close()
        try:
            if not self._pipe.poll(SECONDS_TO_LOAD):
                raise ConceptryError(f"the version was not loaded within {SECONDS_TO_LOAD:.0f} s")
            kind, said = self._pipe.recv()
        except (EOFError, OSError):
            raise ConceptryError(f"the process ended with code {self._child.wait()} while it loaded") from None
        except BaseException:
            self.stop()
            raise
        if kind == "error":
            self.stop()
            raise ConceptryError(said)
        self.device = said

    def ask(self, body: bytes, content_type: str, max_rows: int) -> Answer:
        """The version's answer to a request. Raises Stopped where the process ends meanwhile."""
        try:
            self._pipe.send_bytes(json.dumps({"content_type": content_type, "max_rows": max_rows}).encode())
            self._pipe.send_bytes(body)
            status, kind, rows = json.loads(self._pipe.recv_bytes())
            return Answer(status, kind, rows, self._pipe.recv_bytes().decode())
        except (EOFError, OSError):
            raise Stopped from None

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone, killed for lack of memory for example."""
        return launcher.has_ended(self._child)

    def stop(self) -> None:
        """End the process, whatever it does."""
        with suppress(OSError):
            self._child.kill()

    def close(self) -> None:
        self.stop()
        self._child.wait()
        self._pipe.close()


class Pool:
    """Workers that take requests in the order in which they come; an asynchronous context."""

    def __init__(self, folder: Path, device: str, count: int, on_restart: Callable[[], None] = lambda: None) -> None:
        """`on_restart` hears of each process that was started in the place of one that has ended."""
        self.folder, self.device, self.count, self.on_restart = folder, device, count, on_restart
        self.workers: set[Worker] = set()
        self._idle: asyncio.Queue[Worker] = asyncio.Queue()
        self._restarts: set[asyncio.Task] = set()
        self._threads = ThreadPoolExecutor(2 * count + 2, thread_name_prefix="workers")
        self._closed = False

    async def __aenter__(self) -> "Pool":
        try:
            for _ in range(self.count):
                self._add(await self._in_thread(Worker, self.folder, self.device))
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        for task in self._restarts:
            task.cancel()
        for worker in tuple(self.workers):
            worker.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def ask(self, body: bytes, content_type: str, max_rows: int) -> Answer:
        """An answer of the worker that is idle next. Where this is cancelled, the work stops.

        Raises Stopped where the worker's process ends meanwhile, for lack of memory for example.
        """
        while (worker := await self._idle.get()).has_ended:  # while it had nothing to do
            self._replace(worker)
        try:
            answer = await self._in_thread(worker.ask, body, content_type, max_rows)
        except BaseException:  # cancelled: it works on, and has to be ended; stopped: it has ended
            self._replace(worker)
            raise
        self._idle.put_nowait(worker)
        return answer

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def _add(self, worker: Worker) -> None:
        self.workers.add(worker)
        self._idle.put_nowait(worker)

    def _replace(self, worker: Worker) -> None:
        worker.stop()
        self.workers.discard(worker)
        task = asyncio.create_task(self._restart(worker))
        self._restarts.add(task)
        task.add_done_callback(self._restarts.discard)

    async def _restart(self, ended: Worker) -> None:
        """Put a new worker into the place of one that has ended; where it does not start, try again after a pause."""
        await self._in_thread(ended.close)
        pause, start = 0.5, time.monotonic()
        while not self._closed:
            try:
                worker = await self._in_thread(Worker, self.folder, self.device)
            except (ConceptryError, OSError) as error:
                logger.warning("a process that should hold the version does not start: %s", error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                self.on_restart()
                self._add(worker)
                logger.warning(
                    "a process was ended; a new one holds the version after %.1f s", time.monotonic() - start
                )
                return
