"""A named device is taken or refused, never replaced."""

import pytest
import torch

from conceptry.models.devices import resolve_device
from conceptry.models.errors import InputError


def test_only_a_named_cuda_device_has_an_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda") == torch.device("cuda:0")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


def test_auto_and_cpu() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cpu:1", "cuda:x", "", "CUDA"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="device must be auto, cpu, cuda or cuda:INDEX"):
        resolve_device(name)


def test_a_cuda_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="'cuda:99' is not there"):
        resolve_device("cuda:99")
