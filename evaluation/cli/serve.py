"""`conceptry serve`: a version behind HTTP."""

import click

from conceptry.evaluation.cli.options import command, device_option, errors
from conceptry.evaluation.server.limits import Limits
from conceptry.models.errors import InputError


@command()
@click.argument("uri")
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is every one of this machine.")
@click.option("--port", default=5001, type=click.IntRange(0, 65535), help="Port to listen on; 0 is any free one.")
@click.option("--workers", default=1, type=click.IntRange(min=1), help="Processes that hold the version.")
@click.option("--max-rows", default=Limits.rows, type=click.IntRange(min=1), help="Rows of a request.")
@click.option("--max-bytes", default=Limits.bytes, type=click.IntRange(min=1), help="Bytes of a request.")
@click.option("--max-requests", default=Limits.requests, type=click.IntRange(min=1), help="Requests at one time.")
@click.option("--timeout", default=Limits.seconds, type=float, help="Seconds until a request is given up.")
@device_option
def serve(
    uri: str,
    host: str,
    port: int,
    workers: int,
    max_rows: int,
    max_bytes: int,
    max_requests: int,
    timeout: float,
    device: str,
) -> None:
    """Serve a version over HTTP: POST /invocations, as `mlflow models serve` does, within limits.

    All files of the version are checked first. Beyond a limit a request gets a 413 or 429, after --timeout a 503, and
    the work stops; every error is one sentence. GET /health, /ready and /metrics (for Prometheus) tell how it is.
    """
    if not timeout > 0:
        raise InputError(f"--timeout must be above 0 seconds, got {timeout:g}")
    try:
        from conceptry.evaluation.server.run import serve as run
    except ModuleNotFoundError as error:
        if error.name != "prometheus_client":
            raise
        raise InputError("serving needs prometheus_client; pip install 'conceptry[serve]'") from None
    run(uri, host, port, workers, device, Limits(max_rows, max_bytes, max_requests, timeout), errors.print)
