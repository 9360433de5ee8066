"""How a batch asks and writes, and what it has done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conceptry.models.errors import InputError

BATCH_ROWS = 256  # of a request to the version; fewer where pictures are large: Spark hands over 64 MiB at most
PART_ROWS = {True: 500, False: 5000}  # of a task and its file, of pictures and of tables
MAX_BYTES = 64 * 2**20  # of the file of a picture


@dataclass(frozen=True)
class Settings:
    """How a data set is asked about and written.

    Attributes:
        params: parameters of the method for all rows.
        format: of the output, parquet or json.
        input_format: pictures, parquet, csv, json or table; None goes by the name.
        id_column: whose values tell rows of a table apart; None takes `id`, or a digest of the row.
        batch_rows: rows of a request to the version.
        part_rows: rows of a task, which is what a kill can cost; None is 500 pictures or 5,000 rows of a table.
        max_bytes: of a picture's file; a larger one is not read.
        max_error_share: a job of which more is refused ends early.
        device: auto, cpu, cuda or cuda:INDEX.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    format: str = "parquet"
    input_format: str | None = None
    id_column: str | None = None
    batch_rows: int = BATCH_ROWS
    part_rows: int | None = None
    max_bytes: int = MAX_BYTES
    max_error_share: float = 1.0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("batch_rows", "part_rows", "max_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.max_error_share <= 1:
            raise InputError(f"max_error_share must be from 0 to 1, got {self.max_error_share:g}")


@dataclass(frozen=True)
class Done:
    """What a batch has done.

    Attributes:
        rows: of the input; answered: now; there: before; errors: among all rows of the output by this version and these
            parameters; sentences: why, with the number of rows and the id of one; seconds: of the work.
        run_id: of the MLflow run.
    """

    version: str
    rows: int
    answered: int
    there: int
    errors: int
    sentences: tuple[Mapping[str, Any], ...]
    seconds: float
    run_id: str
