"""Harsanyi interactions: which groups of inputs a model uses together."""

from conceptry.models.harsanyi.moebius import inverse_moebius, moebius

__all__ = ["inverse_moebius", "moebius"]
