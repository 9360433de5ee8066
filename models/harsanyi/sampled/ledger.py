"""Rewards that were asked for, in batches, each mask once; in a file they outlive the process.

The file is one line of JSON, which says whose rewards these are, and then a record for each mask: its bits, and the
reward as a little-endian double. A batch is written and flushed before the next one is asked for. A last record that
a killed process has left half is dropped.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from conceptry.models.errors import InputError, plural
from conceptry.models.harsanyi.interactions._checks import array_of
from conceptry.models.harsanyi.sampled.masks import packed
from conceptry.models.manifest import replace_atomically
from conceptry.models.method import Progress

FORMAT = "sampled rewards 1"


class Ledger:
    """What v has answered.

    Args:
        v: masks (m, n) bool -> rewards (m,).
        total: masks that will be asked for at most, for `progress`.
        path: file that rewards are read from and added to.
        owner: what the rewards belong to; a file with another one is refused.
    """

    def __init__(
        self,
        v: Callable[[np.ndarray], Any],
        n: int,
        batch_size: int,
        total: int,
        progress: Progress | None,
        path: Path | None,
        owner: dict[str, Any],
    ) -> None:
        self._v, self._n, self._batch_size, self._total, self._progress = v, n, batch_size, total, progress
        self._rewards: dict[bytes, float] = {}
        self._path, self._header = path, {"format": FORMAT, "n": n, **owner}
        if path is not None:
            self._open(path)

    def ask(self, masks: np.ndarray) -> np.ndarray:
        """Rewards (m,) float64 of masks (m, n) bool, from the file where they are there."""
        keys = [bits.tobytes() for bits in packed(masks)]
        missing = [row for row, key in enumerate(keys) if key not in self._rewards]
        for start in range(0, len(missing), self._batch_size):
            rows = missing[start : start + self._batch_size]
            rewards = _checked(self._v(masks[rows]), len(rows))
            batch = {keys[row]: reward for row, reward in zip(rows, rewards.tolist(), strict=True)}
            self._write(batch)
            self._rewards.update(batch)
            if self._progress is not None:
                self._progress("rewards", len(self._rewards) / max(self._total, len(self._rewards)))
        return np.array([self._rewards[key] for key in keys])

    def _open(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise InputError(f"there is no folder {path.parent} for the rewards; make it, or name a file in another")
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file for the rewards")
        if not path.exists():
            replace_atomically(path, json.dumps(self._header, sort_keys=True).encode() + b"\n")
            return
        line, _, body = path.read_bytes().partition(b"\n")
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise InputError(f"{path} holds no rewards to resume from; name a new file")
        for key, value in self._header.items():
            if found.get(key) != value:
                raise InputError(
                    f"{path} holds rewards for {key} {found.get(key)!r}, not {value!r}; name a new file, or ask as then"
                )
        width = (self._n + 7) // 8
        record = np.dtype([("bits", np.uint8, (width,)), ("reward", "<f8")])
        whole = len(body) // record.itemsize * record.itemsize
        if whole < len(body):
            os.truncate(path, len(line) + 1 + whole)
        records = np.frombuffer(body[:whole], record)
        keys = [bits.tobytes() for bits in records["bits"]]
        self._rewards = dict(zip(keys, _checked(records["reward"], len(records)).tolist(), strict=True))

    def _write(self, batch: dict[bytes, float]) -> None:
        if self._path is None:
            return
        with self._path.open("ab") as file:
            file.write(b"".join(key + np.array(reward, "<f8").tobytes() for key, reward in batch.items()))
            file.flush()
            os.fsync(file.fileno())


def _checked(rewards: Any, count: int) -> np.ndarray:
    """`rewards` as float64 (count,). Raises InputError where v returned something else."""
    array = array_of("rewards of v", rewards)
    if array.shape != (count,) or array.dtype.kind not in "fiu":
        raise InputError(
            f"v must return one real number for each mask, shape ({count},), got {array.dtype} {array.shape}"
        )
    array = array.astype(np.float64)
    if bad := int((~np.isfinite(array)).sum()):
        raise InputError(f"v returned NaN or infinity for {plural(bad, 'mask')} of {count}; expected finite rewards")
    return array
