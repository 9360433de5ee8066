"""Attacks to train against: projected gradient ascent on the loss, within an L2 ball around each picture.

Madry, Makelov, Schmidt, Tsipras, Vladu, "Towards Deep Learning Models Resistant to Adversarial Attacks", ICLR 2018.

The steps are those of L2Projected with lr = 2.5 epsilon / steps: together they could reach 2.5 times as far as the
border, so the whole ball is within reach. The attack starts at the picture itself, so that no generator is needed, and
what it returns may leave [0, 1].
"""

from collections.abc import Callable

from torch import Tensor

from conceptry.models.perturbation import L2Projected, gradient_ascent
from conceptry.models.perturbation.projected import usual_lr


def l2_attack(
    network: Callable[[Tensor], Tensor], pictures: Tensor, targets: Tensor, epsilon: float, steps: int
) -> Tensor:
    """`pictures` (batch, C, H, W), pixels in [0, 1], each moved by at most `epsilon` to raise its cross-entropy.

    targets: (batch,), int64, the classes to get away from. A torch module attacks as it stands in evaluation mode, so
    its statistics are not touched.
    """
    attacked, _ = gradient_ascent(
        model=network,
        data=pictures,
        target=targets,
        optimizer=L2Projected,
        steps=steps,
        epsilon=epsilon,
        lr=usual_lr(epsilon, steps),
    )
    return attacked
