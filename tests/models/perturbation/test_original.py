"""Names that users of rai-toolbox know."""

import importlib.util

import pytest
import torch

from conceptry.models.errors import InputError
from conceptry.models.explained.load import load_explained
from conceptry.models.perturbation import original

OPTIMIZERS = {
    *("L1FrankWolfe", "L1qFrankWolfe", "L2FrankWolfe", "LinfFrankWolfe", "FrankWolfe", "L1NormedGradientOptim"),
    *("L1qNormedGradientOptim", "L2NormedGradientOptim", "L2ProjectedOptim", "SignedGradientOptim"),
    *("LinfProjectedOptim", "ParamTransformingOptimizer", "TopQGradientOptimizer", "ClampedGradientOptimizer"),
    *("ClampedParameterOptimizer", "ChainedParamTransformingOptimizer"),
}
PERTURBATIONS = {
    *("AdditivePerturbation", "PerturbationModel", "gradient_ascent", "random_restart", "uniform_like_l1_n_ball_"),
    *("uniform_like_l2_n_ball_", "uniform_like_linf_n_ball_"),
}


def test_all_published_names_are_there() -> None:
    assert set(original.__all__) == OPTIMIZERS | PERTURBATIONS | {"load_model"}
    assert all(hasattr(original, name) for name in original.__all__)


@pytest.mark.skipif(importlib.util.find_spec("rai_toolbox") is None, reason="rai-toolbox is not installed")
def test_they_are_those_of_the_package() -> None:
    optim, perturbations = (importlib.import_module(f"rai_toolbox.{part}") for part in ("optim", "perturbations"))
    assert set(optim.__all__) == OPTIMIZERS
    assert set(perturbations.__all__) == PERTURBATIONS


def test_a_network_is_a_module_of_pixels() -> None:
    model = original.load_model("zoo:digits-robust").eval().to("cpu")
    pixels = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(pixels), load_explained("zoo:digits-robust", "cpu").from_pixels(pixels))
    assert model.classes == tuple("0123456789")
    assert model.to(torch.device("cpu")) is model.cpu() is model
    with pytest.raises(InputError, match=r"expected a device, such as 'cuda:0', got torch\.float16"):
        model.to(torch.float16)
    with pytest.raises(InputError, match=r"mitll_imagenet_l2_3_0\.pt: no such file; expected a checkpoint"):
        original.load_model("mitll_imagenet_l2_3_0.pt")
