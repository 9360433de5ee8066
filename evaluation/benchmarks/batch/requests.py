"""Pictures over HTTP: as base64 in JSON, and as bytes in Parquet."""

import base64
import io
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from conceptry.evaluation.benchmarks.measure import Record, seconds_side_by_side
from conceptry.evaluation.benchmarks.servers import CONCEPTRY, JSON, Client, served
from conceptry.models.errors import ConceptryError
from conceptry.models.images import png_bytes

PARQUET: Mapping[str, str] = {"Content-Type": "application/vnd.apache.parquet"}
REPEATS = 15
LARGE = 512


def parquet_body(rows: pd.DataFrame) -> bytes:
    """A request as a Parquet file."""
    stream = io.BytesIO()
    rows.to_parquet(stream, index=False)
    return stream.getvalue()


def json_body(rows: pd.DataFrame) -> bytes:
    """The same as JSON, bytes as base64."""
    records = [{"image": base64.b64encode(content).decode()} for content in rows["image"]]
    return json.dumps({"dataframe_records": records}).encode()


def side_by_side(uri: str, folder: Path, repeats: int = REPEATS) -> list[Record]:
    """Seconds of a request of one picture, of many and of large ones, making its body included."""
    scenes = [file.read_bytes() for file in sorted(folder.glob("*.png"))]
    noise = np.random.default_rng(0).integers(0, 256, (16, LARGE, LARGE, 3), np.uint8)  # which no format makes smaller
    large = [png_bytes(Image.fromarray(pixels)) for pixels in noise]
    cases = {"1 scene": scenes[:1], "64 scenes": scenes[:64], f"16 of {LARGE} x {LARGE}": large}
    records = []
    with served(uri, CONCEPTRY, OMP_NUM_THREADS="1") as client:
        for case, images in cases.items():
            rows = pd.DataFrame({"image": images})
            bodies = {"JSON, base64": (json_body, JSON), "Parquet, bytes": (parquet_body, PARQUET)}
            ask = {name: partial(_asked, client, rows, *how) for name, how in bodies.items()}
            seconds = seconds_side_by_side(ask, repeats)
            records += [
                Record(f"requests, {case}", name, seconds[name], extra={"bytes": len(make(rows))})
                for name, (make, _) in bodies.items()
            ]
    return records


def _asked(
    client: Client, rows: pd.DataFrame, make: Callable[[pd.DataFrame], bytes], headers: Mapping[str, str]
) -> None:
    status, text = client.post(make(rows), headers)
    if status != 200:
        raise ConceptryError(f"the server refused a request: {text[:200]}")
