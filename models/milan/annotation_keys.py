"""Which networks MILANNOTATIONS covers, and the groups of them that describers were trained on.

| group | networks x data sets |
|---|---|
| `base` | alexnet, resnet152, biggan x imagenet, places365 |
| `cls`, `gen` | those of `base` that classify (alexnet, resnet152), that generate (biggan) |
| `imagenet`, `places365` | those of `base` on that data set |
| `alexnet`, `resnet152`, `biggan` | those of `base` of that architecture |
| `not-ARCH-DATASET` | `base` without that one |

`dino_vits8/imagenet` is in no group: it is what describers are tried on.
"""

import difflib

from conceptry.models.errors import InputError, shown

_ARCHITECTURES = ("alexnet", "resnet152", "biggan")
_DATASETS = ("imagenet", "places365")

BASE = tuple(f"{arch}/{data}" for arch in _ARCHITECTURES for data in _DATASETS)
KEYS = (*BASE, "dino_vits8/imagenet")
GROUPS = {
    "base": BASE,
    "cls": tuple(key for key in BASE if not key.startswith("biggan/")),
    "gen": tuple(key for key in BASE if key.startswith("biggan/")),
    **{data: tuple(key for key in BASE if key.endswith(f"/{data}")) for data in _DATASETS},
    **{arch: tuple(key for key in BASE if key.startswith(f"{arch}/")) for arch in _ARCHITECTURES},
    **{f"not-{key.replace('/', '-')}": tuple(other for other in BASE if other != key) for key in BASE},
}


def networks_of(key: str) -> tuple[str, ...]:
    """The networks, each as ARCH/DATASET, that a key or a group stands for; several may be joined by commas.

    Raises InputError with near names for unknown ones, and where a network is named twice.
    """
    found: list[str] = []
    for name in (part.strip() for part in key.split(",")):
        known = GROUPS.get(name) or ((name,) if name in KEYS else None)
        if known is None:
            names = [*KEYS, *GROUPS]
            near = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or [*KEYS, *list(GROUPS)[:8], "not-..."]
            raise InputError(f"MILANNOTATIONS has no {shown(name)}; expected one such as {', '.join(near)}")
        found += known
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise InputError(f"{shown(key)} names {twice[0]} twice; expected each network once")
    return tuple(found)


def archive_of(network: str) -> str:
    """The name of the published .zip file: alexnet/imagenet is alexnet-imagenet.zip."""
    return f"{network.replace('/', '-')}.zip"
