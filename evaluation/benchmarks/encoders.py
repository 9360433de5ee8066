"""Which of open_clip's architectures are encoders here: each one untrained, from a file of weights to an answer.

| outcome | what was done |
|---|---|
| explains | weights of chance in a file, `load_encoder`, `Splice`, its package written, read and asked of a picture |
| embeds | the network alone embeds a picture and token numbers: its tokeniser is one of the Hugging Face Hub |
| has the shapes | as embeds, without numbers: the network is larger than `LARGEST` |
| anything else | the sentence by which it is refused |
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from conceptry.evaluation.benchmarks.measure import Benchmark, Record, Target
from conceptry.models.errors import InputError
from conceptry.models.folders import temporary_folder

LARGEST, QUICK_LARGEST = 400_000_000, 45_000_000  # parameters of a network that is run
WORDS = ("dog", "cat", "red", "blue", "tree")


def run(dictionary: Path | None = None, quick: bool = False, progress: Callable[[str], None] = print) -> Benchmark:
    """Try every architecture of the installed open_clip. `dictionary` says nothing here: other benchmarks take one."""
    import open_clip

    records = []
    for name in open_clip.list_models():
        progress(name)
        start = time.perf_counter()
        outcome, parameters = _tried(name, QUICK_LARGEST if quick else LARGEST)
        seconds = time.perf_counter() - start
        records.append(Record("architectures", name, seconds, extra={"parameters": parameters, "outcome": outcome}))
    outcomes = Counter(str(record.extra["outcome"]) for record in records)
    failed = sum(count for outcome, count in outcomes.items() if outcome.startswith("FAILS"))
    notes = [f"{count} of {len(records)}: {outcome}" for outcome, count in outcomes.most_common()]
    notes.append(f"open_clip {open_clip.__version__}")
    return Benchmark(
        "architectures of open_clip", records, [Target("architectures that fail", failed, 0, "max")], notes
    )


def _tried(name: str, largest: int) -> tuple[str, int | None]:
    """What came of one architecture, and how many parameters it has."""
    import torch

    from conceptry.models.encoders.clip import architecture_config
    from conceptry.models.encoders.weights import build_model

    try:
        config = architecture_config(name)
        with torch.device("meta"):  # shapes alone
            shapes: Any = build_model(config, name)
    except InputError as error:
        return str(error).removeprefix(f"open_clip:{name} "), None
    parameters = sum(parameter.numel() for parameter in shapes.parameters())
    try:
        if parameters > largest:
            _embed(shapes, config, "meta")
            return "has the shapes", parameters
        torch.manual_seed(0)
        model = build_model(config, name)
        if config["text_cfg"].get("hf_tokenizer_name"):
            _embed(model, config, "cpu")
            return "embeds", parameters
        _explain(name, model)
        return "explains", parameters
    except Exception as error:  # whatever goes wrong is what this looks for
        return f"FAILS: {type(error).__name__}: {' '.join(str(error).split())[:200]}", parameters


def _embed(model: Any, config: dict[str, Any], device: str) -> None:
    import torch

    size = model.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)
    text = config["text_cfg"]
    tokens = torch.ones((2, text.get("context_length", 77)), dtype=torch.long, device=device)
    with torch.inference_mode():
        image = model.eval().encode_image(torch.zeros(2, 3, height, width, device=device))
        embedded = model.encode_text(tokens)
    assert image.shape == embedded.shape == (2, config["embed_dim"]), (image.shape, embedded.shape)
    assert device == "meta" or (image.isfinite().all() and embedded.isfinite().all())


def _explain(name: str, model: Any) -> None:
    import torch
    from safetensors.torch import save_file

    from conceptry.models.encoders import load_encoder
    from conceptry.models.images import example_image, image_bytes
    from conceptry.models.splice import Splice
    from conceptry.models.splice.package import read_package

    with temporary_folder("encoders") as directory:
        weights = directory / "weights.safetensors"
        save_file({key: value.contiguous() for key, value in model.state_dict().items()}, str(weights))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pixels of untrained weights are anybody's
            encoder = load_encoder(f"open_clip:{name}@{weights}", "cpu")
        zeros = torch.zeros(encoder.encode_text(["a"]).shape[1])
        Splice(encoder, WORDS, None, zeros, zeros, l1_penalty=0.01).to_package(directory / "package")
        explainer = read_package(directory / "package", torch.device("cpu"))
        record = explainer.explain([image_bytes(example_image())])
        assert record.cosine.isfinite().all(), record.cosine
