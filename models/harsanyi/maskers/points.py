"""Players of a point cloud: clusters of points. The points of an absent one lie at the baseline point.

| symbol | meaning | shape |
|---|---|---|
| points | coordinates | (points, 3) |
| clusters | player of each point, BACKGROUND for those always present | (points,) int64 |
| b | baseline point, by default the centroid | (3,) |
"""

import numpy as np

from conceptry.models.errors import InputError
from conceptry.models.harsanyi.maskers.base import check_owner, check_players, presence


class PointMasker:
    """A point cloud where any subset of clusters can be moved to one point.

    Args:
        points: (points, 3) finite floats.
        clusters: (points,) integers 0 to n - 1, or BACKGROUND (-1) for points present in every subset; of
            `cluster_points`.
        baseline: (3,), default the centroid of all points.

    Attributes:
        players: "cluster 1" and so on; owner: the clusters, int64.

    Raises InputError where shapes do not fit, a coordinate is not finite, or a number below the largest is no point's.
    """

    def __init__(self, points: np.ndarray, clusters: np.ndarray, baseline: np.ndarray | None = None):
        self._points = _checked(points)
        self._baseline = self._points.mean(axis=0) if baseline is None else np.asarray(baseline, self._points.dtype)
        if self._baseline.shape != (3,) or not np.isfinite(self._baseline).all():
            raise InputError(f"the baseline point must be 3 finite numbers, got {np.asarray(baseline).tolist()}")
        if clusters.shape != (len(points),):
            raise InputError(f"clusters must have shape ({len(points)},), one for each point, got {clusters.shape}")
        self.owner = check_owner(clusters, "clusters")
        self.players = check_players(f"cluster {k + 1}" for k in range(self.owner.max() + 1))

    def masked(self, masks: np.ndarray) -> np.ndarray:
        """One cloud for each row of `masks` (batch, n) bool: (batch, points, 3), in the dtype of the points."""
        return np.where(presence(masks, self.owner)[..., None], self._points, self._baseline)


def cluster_points(points: np.ndarray, n: int, seed: int) -> np.ndarray:
    """The cluster of each point by k-means, int64 (points,), numbered by first point. Equal seeds, equal clusters.

    Raises InputError unless there are at least n >= 1 different points.
    """
    points = _checked(points)
    different = len(np.unique(points, axis=0))
    if not 1 <= n <= different:
        raise InputError(f"{different} different points cannot make {n} clusters; expected 1 to {different}")
    from sklearn.cluster import KMeans

    labels = KMeans(n, random_state=seed).fit_predict(points)
    _, first = np.unique(labels, return_index=True)
    return np.argsort(np.argsort(first))[labels]


def _checked(points: np.ndarray) -> np.ndarray:
    if points.ndim != 2 or points.shape[1] != 3 or not len(points) or points.dtype.kind != "f":
        raise InputError(f"points must be floats of shape (points, 3), got {points.dtype} {points.shape}")
    if bad := int((~np.isfinite(points)).any(axis=1).sum()):
        raise InputError(f"points: {bad} of {len(points)} are NaN or infinite")
    return points
