"""The explainer of sparse perturbations: a network, and how its images are to be changed.

| mode | question | `explain` takes |
|---|---|---|
| probe | what does a class look like to the network? | `target`; images to start from, or None |
| counterfactual | what would have to change? | images; `target`, or away from `source` or the prediction |
| explain_error | why was it misread? | misread images and their true classes, `target` |
| invert | what does a layer keep of an image? | images; `source`, images to start from |
"""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from conceptry.models.errors import InputError, cell_error
from conceptry.models.explained.load import load_explained
from conceptry.models.explained.preprocessing import adjust_images
from conceptry.models.explained.protocol import PackagedModel
from conceptry.models.images import png_bytes
from conceptry.models.manifest import read_json, write_json
from conceptry.models.method import Package, Progress, check_options, contents_of, option_type
from conceptry.models.perturbation.class_scores import ClassScores
from conceptry.models.perturbation.explanation import Explanation
from conceptry.models.perturbation.question import noise
from conceptry.models.perturbation.record import Batch, Perturbations
from conceptry.models.perturbation.rows import Row, cells_of, opened, read_row
from conceptry.models.perturbation.settings import COUNTERFACTUAL, EXPLAIN_ERROR, INVERT, L1Q, PROBE, Settings
from conceptry.models.perturbation.solvers.budget import check_kept, pixel_budget
from conceptry.models.perturbation.solvers.representation import layer_to_match
from conceptry.models.perturbation.solvers.sparsest import SLOTS
from conceptry.models.perturbation.tasks import counterfactual, explain_error, invert, probe

CONFIG, EXPLAINED = "config.json", "explained"
EXAMPLE_SIZE = (224, 224)  # of an example for a network that takes any size
MAX_ROWS = 64  # of one batch
MAX_NUMBERS = 2**20  # pixels times channels of one batch: what a network keeps of a large picture is many times that
# Settings that a request may change.
PARAMS: Mapping[str, type] = {
    name: option_type(Settings, name)
    for name in (
        "mode", "q", "dq", "epsilon", "steps", "max_changed", "seed", "optimizer", "lr", "confidence", "start", "layer",
        "sparsest",
    )
}  # fmt: skip
REQUIREMENTS = ("numba", "numpy", "pandas", "pillow", "safetensors", "torch")


class Perturbation:
    """Changes images sparsely: what a class looks like to a network, and what would change its mind.

    Args:
        model: the network, by its name ("zoo:digits-16-robust", "torchvision:resnet50@FILE", "models:/NAME/VERSION",
            as `conceptry register perturbation --model` takes it); a torch module over images; or a `PixelModel`.
        device: auto, cpu, cuda or cuda:INDEX. A module stays where it is for "auto".
        outputs: "logits", "probabilities" or "auto": a module's are logits then.
        allow_pickle: also load a named network that is stored as a pickle, which runs code from its file.
        classes: names of the classes, in the order of the outputs.
        size: (height, width) that the network takes, or one number for both; images of other sizes are resized. A
            module takes images of any size where it is not given.
        mean, std: of the channels of pixels in [0, 1], by which these are normalised. A module holds its own
            normalisation where they are not given.
        settings: the settings as one object, or
        **values: each of them by its name, see `Settings`.

    Raises:
        InputError: for a network that cannot be found or is no differentiable classifier of images, and for settings
            that are unknown or outside their range.

    Example:
        >>> import conceptry
        >>> explainer = conceptry.Perturbation("zoo:digits-16-robust", q=0.9, steps=20)
        >>> found = explainer.explain(None, target=[3, 7])
        >>> [answer["after"][0]["class"] for answer in found.answers()]
        ['3', '7']
    """

    method: ClassVar[str] = "perturbation"

    def __init__(
        self,
        model: Any = "zoo:digits-16-robust",
        *,
        device: str = "auto",
        outputs: str = "auto",
        allow_pickle: bool = False,
        classes: Sequence[str] | None = None,
        size: int | Sequence[int] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        settings: Settings | None = None,
        **values: Any,
    ) -> None:
        if settings is not None and values:
            raise InputError(f"settings are given as one object, so leave {next(iter(values))} out")
        self.settings = settings or Settings(**_checked(values, Settings.__dataclass_fields__, "setting"))
        about: dict[str, Any] = {"classes": classes, "size": size, "mean": mean, "std": std}
        given = [name for name, value in about.items() if value is not None]
        if isinstance(model, str):
            model = adjust_images(load_explained(model, device, outputs=outputs, allow_pickle=allow_pickle), **about)
        elif isinstance(model, nn.Module) and not hasattr(model, "modality"):
            from conceptry.models.explained.loaders.objects import module_of_images

            model = module_of_images(model, device, outputs=outputs, **about)
        elif given:
            raise InputError(f"{given[0]} is of a module or a name, and a {type(model).__name__} says what it is")
        self.scores = ClassScores(model)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.scores.name!r}, {self.settings})"

    @property
    def model(self) -> Any:
        """The network as a `PixelModel`."""
        return self.scores.model

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the network's classes."""
        return self.scores.classes

    def explain(
        self,
        images: Any = None,
        *,
        mode: str | None = None,
        target: Any = None,
        source: Any = None,
        details: bool = False,
        progress: Progress | None = None,
        **params: Any,
    ) -> Perturbations:
        """Perturb images, or nothing at all, toward classes, away from them, or toward the representation of others.

        Args:
            images: one image or several, as PIL images, paths, bytes of files, uint8 arrays (H, W, 3) or (n, H, W, 3),
                or pixels in [0, 1] as floating tensors (C, H, W) or (n, C, H, W); a table or dictionaries of the
                columns image, target and source; None to probe classes from noise or grey.
            mode: probe, counterfactual, explain_error or invert; None for that of the settings, and without images for
                a probe.
            target: classes by name or index, one for all images or one for each. Several for one image are one row
                each.
            source: the same of the classes to go away from; with invert, images to start from.
            details: whether the answers of the record carry start, losses and path.
            progress: told what is being done and the share that is.
            **params: settings that are to differ from those of the explainer, the same as in a request to a server.

        Returns:
            A record with one row for each image, or for each target.

        Raises:
            InputError: naming row and column of what cannot be answered, and unknown or unacceptable params.
        """
        if mode is None and images is None and self.settings.mode != PROBE:
            mode = PROBE
        given = _checked(params, [name for name in PARAMS if name != "mode"], "param", also=("mode", "details"))
        settings = self.override(given | {"mode": mode})
        cells, names = cells_of(images, target, source, settings.mode)
        rows = [read_row(self.scores, settings, number, values, opened) for number, values in enumerate(cells)]
        batches = list(self.explain_rows(rows, settings, progress))
        probes = [row.is_probe for row in rows]
        return Perturbations(self.scores, settings, batches, names=names, probes=probes, details=details)

    def override(self, params: Mapping[str, Any]) -> Settings:
        """The settings with those of a request in their place; None and "" leave what there is."""
        settings = self.settings.override(params)
        if settings.mode == INVERT:
            layer_to_match(self.model, settings.layer)
        return settings

    def explain_rows(
        self, rows: Sequence[Row], settings: Settings, progress: Progress | None = None
    ) -> Iterator[Batch]:
        """The rows in batches of one shape, one batch after the other; what a server and `explain` share."""
        done = 0
        for batch in _batches(rows, settings):
            report = _progress_of(progress, settings, done, len(batch), len(rows))
            yield Batch(self._explain(batch, settings, report), tuple(row.number for row in batch))
            done += len(batch)

    def _explain(
        self, batch: Sequence[Row], settings: Settings, progress: Callable[[float], None] | None
    ) -> tuple[Explanation, ...]:
        """The answer to a batch of rows with pictures of one shape; two for the two directions of an error."""
        model: Any = self.model
        images, starts = (
            None if getattr(batch[0], name) is None else torch.cat([getattr(row, name) for row in batch])
            for name in ("image", "start")
        )
        numbers = [row.number for row in batch]
        targets, sources = [row.target for row in batch], [row.source for row in batch]
        if settings.mode == PROBE:
            return (probe(model, targets, settings=settings, start=starts, rows=numbers, progress=progress),)
        assert images is not None  # every other mode has a picture, which `read_row` has seen to
        if settings.mode == INVERT:
            return (invert(model, images, starts, settings=settings, rows=numbers, progress=progress),)
        if settings.mode == EXPLAIN_ERROR:
            wrong = self._wrong_classes(batch, images)
            return explain_error(model, images, targets, wrong, settings=settings, progress=progress)
        return (counterfactual(model, images, targets, sources, settings=settings, progress=progress),)

    def _wrong_classes(self, batch: Sequence[Row], images: Tensor) -> list[int]:
        predicted = self.scores.probabilities(images).argmax(1).tolist()
        wrong = [p if row.source is None else row.source for row, p in zip(batch, predicted, strict=True)]
        for row, of in zip(batch, wrong, strict=True):
            if row.target == of:
                how = "which the network predicts as well" if row.source is None else "and so is the source"
                raise cell_error(
                    row.number,
                    "target",
                    f"the true class is {self.scores.classes[of]!r}, {how}: there is no error to explain; "
                    "name the wrong class as the source",
                )
        return wrong

    def to_package(self, directory: Path) -> Package:
        """Write the package folder that versions hold: `config.json` (settings) and `explained/` (the network).

        Args:
            directory: an empty folder.

        Returns:
            What the registry records of it.

        Raises:
            InputError: for a network that cannot be written, and for settings that do not fit its images.
        """
        scores, settings = self.scores, self.settings
        model: Any = self.model
        if not isinstance(model, PackagedModel):
            raise InputError(
                f"{scores.name}: an object of the class {type(model).__name__} cannot be packaged; log its network "
                "with mlflow.pytorch.log_model and give the name of that model, models:/NAME/VERSION"
            )
        network: Any = model
        # What versions differ in most comes first: a list of them has no room for more.
        params: dict[str, Any] = {"model": model.lineage["explained_model"]}
        notes = model.notes
        params |= dict.fromkeys(("optimizer", "q", "epsilon"))
        params |= asdict(settings)
        if settings.optimizer != L1Q:
            params |= {"q": None, "dq": None}
        if network.size is not None:
            height, width = network.size
            entries = network.channels * height * width
            params["epsilon"] = float(f"{settings.radius(entries):.6g}")  # later digits are rounding
            notes = (*notes, *filter(None, [settings.unbounded(entries)]))
            if settings.optimizer == L1Q and not settings.sparsest:
                check_kept(settings.q, entries)
            if settings.max_changed is not None:
                pixel_budget(settings.max_changed, height, width)
        if settings.mode == INVERT or settings.layer is not None:
            layer_to_match(network, settings.layer)
        model.save(directory / EXPLAINED)
        write_json(directory / CONFIG, asdict(settings))
        params |= {"outputs": model.form, "classes": len(scores.classes)}
        params = {name: value for name, value in params.items() if value is not None}
        requirements = dict.fromkeys((*REQUIREMENTS, *model.requirements))
        contents = contents_of({"model": (params["model"], model.lineage.get("explained_sha256"))})
        return Package(params, model.lineage, _example(scores, settings), tuple(requirements), notes, contents)


def read_settings(directory: Path) -> Settings:
    """The settings in a package folder."""
    return Settings(**read_json(directory / CONFIG))


def _checked(values: Mapping[str, Any], known: Any, what: str, also: Sequence[str] = ()) -> dict[str, Any]:
    """The values that are given. Raises InputError for unknown names and wrong types."""
    if unknown := sorted(values.keys() - set(known)):
        names = ", ".join((*also, *known))
        raise InputError(f"unknown {what} {unknown[0]!r} of perturbation; expected one of {names}")
    check_options(Settings, {name: value for name, value in values.items() if value not in (None, "")})
    return dict(values)


def _batches(rows: Sequence[Row], settings: Settings) -> list[list[Row]]:
    """Rows that can be solved together: pictures of one shape, given or not, as many as a batch may hold."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.kind, []).append(row)
    batches = []
    for group in groups.values():
        numbers = int(np.prod(group[0].shape)) * (SLOTS if settings.sparsest else 1)
        size = max(1, min(MAX_ROWS, MAX_NUMBERS // numbers))
        batches += [group[i : i + size] for i in range(0, len(group), size)]
    return batches


def _progress_of(
    report: Progress | None, settings: Settings, done: int, part: int, whole: int
) -> Callable[[float], None] | None:
    if report is None:
        return None
    return lambda share: report(settings.mode.replace("_", " "), (done + share * part) / whole)


def _example(scores: ClassScores, settings: Settings) -> Mapping[str, Sequence[Any]]:
    """A request of one row in the registered mode, whose image is noise: it needs no data set."""
    model = scores.model
    (pixels,) = (noise([0], (3, *(model.size or EXAMPLE_SIZE)), settings.seed).numpy() * 255).round().astype(np.uint8)
    image = {"image": [base64.b64encode(png_bytes(Image.fromarray(np.moveaxis(pixels, 0, -1)))).decode()]}
    if settings.mode == PROBE:
        return {"target": [scores.classes[0]]} if model.size else {"target": [scores.classes[0]], **image}
    if settings.mode == COUNTERFACTUAL:
        return {**image, "target": [scores.classes[0]]}
    if settings.mode == EXPLAIN_ERROR:
        return {**image, "target": [scores.classes[0]], "source": [scores.classes[1]]}
    return image
