"""A version with its model's layers drawn anew, from the outputs down: what an explanation should not survive.

Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018 (cascading randomisation). Of an ensemble of trees the
last trees are changed: each leaf says what another leaf of its tree, drawn by chance, did.
"""

from collections.abc import Callable, Iterator

from conceptry.evaluation.isolation.client import Predict

SHARES = (0.0, 0.5, 1.0)  # of the layers, or trees, that are drawn anew: the last one, half of them, all


def stages(predict: Predict, progress: Callable[[float], None]) -> Iterator[tuple[float, Predict]]:
    """Each share with the version so changed; raises ConceptryError where the version cannot be."""
    for stage, share in enumerate(SHARES):
        with predict.redrawn(share or 1e-9) as changed:
            yield share, changed
        progress((stage + 1) / len(SHARES))
