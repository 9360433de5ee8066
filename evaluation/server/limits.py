"""What a server takes of its clients."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of a server.

    Attributes:
        rows: of a request.
        bytes: of the body of a request.
        requests: that are answered or wait at one time.
        seconds: from the first byte of a request to its answer.
        abandoned_seconds: that an answer may still take once its client has gone.
    """

    rows: int = 10_000
    bytes: int = 32 * 2**20
    requests: int = 32
    seconds: float = 60.0
    abandoned_seconds: float = 5.0
