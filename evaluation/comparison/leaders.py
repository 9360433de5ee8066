"""Who leads on a metric: versions that are better, beyond chance, than every version that does not lead.

Versions are ordered by value, the best first. The leaders are the smallest group at the front of that order of which
each is better beyond chance than every version outside of it. Where there is no such group, nobody leads: the best
value alone says nothing.
"""

from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

Key = TypeVar("Key", int, str, int | str)

RULE = "bold: better, beyond chance, than every version that is not bold"


def leaders(
    values: Mapping[Key, float], better: Literal["higher", "lower"] | None, is_better: Callable[[Key, Key], bool]
) -> frozenset[Key]:
    """Find who leads.

    Args:
        values: of the metric, by version.
        better: its direction; without one nobody leads.
        is_better: whether the first version is better than the second beyond chance.

    Example:
        >>> sorted(leaders({1: 0.8, 2: 0.79, 3: 0.5}, "higher", lambda one, other: other == 3))
        [1, 2]
    """
    if better is None:
        return frozenset()
    order = sorted(values, key=lambda key: values[key], reverse=better == "higher")
    for count in range(1, len(order)):
        front, rest = order[:count], order[count:]
        if all(is_better(one, other) for one in front for other in rest):
            return frozenset(front)
    return frozenset()
