"""The HTTP side of a server: limits before the version is asked, a deadline while it is, one sentence for an error."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

from mlflow.protos.databricks_pb2 import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    REQUEST_LIMIT_EXCEEDED,
    RESOURCE_EXHAUSTED,
    TEMPORARILY_UNAVAILABLE,
    ErrorCode,
)
from mlflow.version import VERSION
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from conceptry.evaluation.isolation.scoring import Answer
from conceptry.evaluation.server.limits import Limits
from conceptry.evaluation.server.pool import Pool, Stopped

# MLflow's names of errors, which its clients know, by status.
CODES = {
    400: INVALID_PARAMETER_VALUE,
    408: BAD_REQUEST,
    413: RESOURCE_EXHAUSTED,
    415: BAD_REQUEST,
    429: REQUEST_LIMIT_EXCEEDED,
    500: INTERNAL_ERROR,
    503: TEMPORARILY_UNAVAILABLE,
}
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """What Prometheus reads of a server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter("conceptry_requests", "Requests to /invocations.", ["status"], registry=registry)
        self.errors = Counter("conceptry_errors", "Requests without an answer, by kind.", ["kind"], registry=registry)
        self.rows = Counter("conceptry_rows", "Rows that were answered.", registry=registry)
        self.in_flight = Gauge("conceptry_requests_in_flight", "Requests that are answered or wait.", registry=registry)
        self.restarts = Counter("conceptry_restarts", "Processes started in place of ended ones.", registry=registry)
        self.seconds = Histogram(
            "conceptry_request_seconds", "From a request to its answer.", buckets=BUCKETS, registry=registry
        )


class Refusal(Exception):  # noqa: N818  # not always a fault
    """A request that gets no answer of the version. Its argument is what the client is told."""

    def __init__(self, status: int, kind: str, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.kind, self.sentence, self.retry_after = status, kind, sentence, retry_after


def application(pool: Pool, limits: Limits, metrics: Metrics, title: str) -> Starlette:
    """The application that serves the version `title` of a running pool."""
    slots = asyncio.Semaphore(limits.requests)

    async def invocations(request: Request) -> Response:
        with metrics.in_flight.track_inprogress():
            start = time.perf_counter()
            answer, retry_after = await _answer(request, pool, limits, slots)
            metrics.seconds.observe(time.perf_counter() - start)
        metrics.requests.labels(answer.status).inc()
        if answer.kind == "ok":
            metrics.rows.inc(answer.rows)
            return Response(answer.text, media_type="application/json")
        metrics.errors.labels(answer.kind).inc()
        return _error(answer.status, answer.text, retry_after)

    async def health(request: Request) -> Response:
        return Response("\n", media_type="application/json")

    async def ready(request: Request) -> Response:
        if pool.workers:
            return Response(
                json.dumps({"version": title, "processes": len(pool.workers)}), media_type="application/json"
            )
        return _error(503, "no process holds the version at this moment", 1)

    async def version(request: Request) -> Response:
        return Response(VERSION)

    async def measured(request: Request) -> Response:
        return Response(generate_latest(metrics.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        sentence = f"{request.method} {error.status_code}: {error.detail}; ask by POST /invocations"
        return _error(error.status_code, sentence, headers=error.headers)

    routes = [
        Route("/invocations", invocations, methods=["POST"]),
        *(Route(path, health) for path in ("/ping", "/health")),
        Route("/ready", ready),
        Route("/version", version),
        Route("/metrics", measured),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: refused})


async def _answer(request: Request, pool: Pool, limits: Limits, slots: asyncio.Semaphore) -> tuple[Answer, int | None]:
    """The answer, or what the client is told instead, and after how many seconds it may try again."""
    try:
        if slots.locked():
            raise Refusal(429, "busy", f"the server works on {limits.requests} requests; try again in a second", 1)
        async with slots:
            deadline = time.monotonic() + limits.seconds
            body = await _body(request, limits)
            return await _asked(request, pool, limits, body, deadline - time.monotonic()), None
    except Refusal as refusal:
        return Answer(refusal.status, refusal.kind, 0, refusal.sentence), refusal.retry_after


async def _body(request: Request, limits: Limits) -> bytes:
    """The body of a request. Raises Refusal where it is too long, takes too long, is encoded or is not all sent."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refusal(415, "malformed", "the body must not be compressed; leave Content-Encoding out")
    too_large = Refusal(413, "too_large", f"the body is longer than {limits.bytes:,} bytes; send fewer rows at once")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.bytes:
        raise too_large
    parts = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            async for part in request.stream():
                parts += part
                if len(parts) > limits.bytes:
                    raise too_large
    except TimeoutError:
        raise Refusal(408, "malformed", f"the body did not arrive within {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise Refusal(400, "disconnected", "the client has gone") from None
    return bytes(parts)


async def _asked(request: Request, pool: Pool, limits: Limits, body: bytes, seconds: float) -> Answer:
    """The version's answer within `seconds`; sooner given up where the client has gone. Raises Refusal."""
    content_type = request.headers.get("content-type", "")
    work = asyncio.create_task(pool.ask(body, content_type, limits.rows))
    async with _watched(request) as gone:
        await asyncio.wait({work, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if gone.done() and not work.done():
            await asyncio.wait({work}, timeout=min(seconds, limits.abandoned_seconds))
            if not work.done():
                work.cancel()
                raise Refusal(400, "disconnected", "the client has gone")
    if not work.done():
        work.cancel()
        sentence = f"there was no answer within {limits.seconds:g} s, and the work has stopped; send fewer rows at once"
        raise Refusal(503, "deadline", sentence, 1)
    try:
        return work.result()
    except Stopped:
        sentence = "the process that worked on the request has ended; send fewer rows at once, or try again"
        raise Refusal(503, "stopped", sentence, 1) from None


@contextlib.asynccontextmanager
async def _watched(request: Request) -> AsyncIterator[asyncio.Task]:
    """A task that is done once the client has gone."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task = asyncio.create_task(gone())
    try:
        yield task
    finally:
        task.cancel()


def _error(status: int, sentence: str, retry_after: int | None = None, headers: object = None) -> Response:
    code = ErrorCode.Name(CODES.get(status, BAD_REQUEST))
    response = Response(json.dumps({"error_code": code, "message": sentence}), status, media_type="application/json")
    if isinstance(headers, dict):
        response.headers.update(headers)
    if retry_after is not None:
        response.headers["retry-after"] = str(retry_after)
    return response
