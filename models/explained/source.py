"""Which model is explained, as options of a method's registration."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from conceptry.models.explained.protocol import FORMS
from conceptry.models.method import option

if TYPE_CHECKING:
    import torch

    from conceptry.models.explained.protocol import PackagedModel


@dataclass(frozen=True)
class ExplainedSource:
    """The explained model and what has to be said to load it."""

    model: str = option(
        "zoo:wine",
        "Explained model: zoo:NAME, classifier:FOLDER, models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN/PATH, "
        "onnx:FILE, torchvision:NAME@WEIGHTS, torchvision:NAME@FILE, timm:NAME[@FILE] or imagenet:efficientnet-lite0.",
    )
    outputs: str = option("auto", "What the outputs of the model are; auto asks the model.", ("auto", *FORMS))
    statistics: str | None = option(
        None, "CSV of background rows, e.g. the training data, for a table model that comes without statistics."
    )
    allow_pickle: bool = option(False, "Also load a model that is stored as a pickle, which runs code from its file.")

    def load(self, device: "torch.device") -> "PackagedModel":
        """The model. Raises InputError where it cannot be found or loaded."""
        from conceptry.models.explained.load import load_explained

        return load_explained(
            self.model,
            device,
            statistics=self.statistics,
            outputs=self.outputs,
            allow_pickle=self.allow_pickle,
        )
