"""The pyfunc that all methods share: digests checked at load, a table in, a table out, no trace to the client.

MLflow's scoring server sends the full stack trace of most exceptions to the client, so everything that leaves
`predict` is an MlflowException with one sentence.
"""

import logging
import math
import os
import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from conceptry.models.devices import resolve_device
from conceptry.models.errors import ConceptryError, InputError
from conceptry.models.errors import cell_error as cell_error  # readers of rows import it from here
from conceptry.models.manifest import PACKAGE, verify
from conceptry.models.method import Progress, Work

logger = logging.getLogger(__name__)
SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"  # set to "true" by MLflow's server, and by ours


class Explainer(PythonModel):
    """Base of the pyfuncs. A subclass gives `signature`, `load` and `explain`; `explain` must be thread-safe.

    `signature` may depend on the package: `load` sets it then.

    `work` says how much a server does for one request, unless the version was registered with a `max_work` of its own.

    `manifest_sha256` is the digest that the package folder's manifest must have. `progress`, where somebody has set it,
    wants to hear what a long explanation is doing and the share done so far; a server leaves it alone.
    """

    signature: ModelSignature
    work: Work
    max_work: int | None = None
    device: torch.device
    progress: Progress | None = None

    def __init__(self, manifest_sha256: str) -> None:
        self.manifest_sha256 = manifest_sha256

    def check_work(self, amount: float) -> None:
        """Raise InputError where a client asks a server for too much at once; amount: in the unit of `work`.

        Whoever asks in a process of their own, or of Spark, may ask for anything.
        """
        most = self.work.most if self.max_work is None else self.max_work
        if amount > most and os.environ.get(SERVING) == "true":
            raise InputError(
                f"the request is too much work for a server: {amount:,.0f} {self.work.unit}, and it takes {most:,} at "
                f"once; send fewer rows, or ask for {self.work.way_out}"
            )

    @abstractmethod
    def load(self, directory: Path, device: torch.device) -> None:
        """Read the package folder; its digests have been checked."""

    @abstractmethod
    def explain(self, rows: pd.DataFrame, params: Mapping[str, Any]) -> pd.DataFrame:
        """One row of answer for each row of the request. Raises InputError for what the client did wrong."""

    def redraw(self, share: float, seed: int) -> int:
        """Draw the parameters of the last `share` of the explained model's layers anew, for evaluations alone.

        Of an ensemble, what the leaves of its last trees say. Returns how many layers or trees were drawn, 0 where the
        model has no parameters that can be.
        """
        return 0

    def load_context(self, context: PythonModelContext) -> None:
        directory = Path(context.artifacts[PACKAGE])
        verify(directory, self.manifest_sha256)
        # A server takes no configuration of the model, so its administrator has a variable.
        name = os.environ.get("CONCEPTRY_DEVICE") or (context.model_config or {}).get("device", "auto")
        self.device = resolve_device(name)
        self.max_work = (context.model_config or {}).get("max_work")
        logger.info("loading %s on %s", type(self).__name__, self.device)
        self.load(directory, self.device)

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  # the base is annotated as returning None
        self, context, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        try:
            if not isinstance(model_input, pd.DataFrame):
                raise InputError(f"a request must be a table of rows, got {type(model_input).__name__}")
            if not len(model_input):
                # MLflow drops columns that the signature lacks, and the rows with them where no column is left.
                columns = ", ".join(map(repr, self.signature.inputs.input_names()))
                raise InputError(f"the request holds no rows with any of the columns {columns}; expected at least one")
            answer = self.explain(model_input.reset_index(drop=True), params or {})
            return answer.set_axis(model_input.index, axis=0)  # so that columns of it go back to the rows asked about
        except ConceptryError as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None
        except MlflowException:
            raise
        except Exception:
            logger.exception("an explanation failed")
            raise MlflowException(
                "the explanation failed inside the model; the server's log has the reason",
                error_code=INTERNAL_ERROR,
            ) from None


def is_given(value: object) -> bool:
    """Whether a cell holds a value: not None, not NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value)) and value is not pd.NA


def in_spark() -> bool:
    """Whether this process works on a task of Spark."""
    pyspark = sys.modules.get("pyspark")
    return pyspark is not None and pyspark.TaskContext.get() is not None
