"""Attention of hypotheses over the exemplars of their units.

| symbol | meaning | shape |
|---|---|---|
| q | queries of R rows | (R, A) |
| p | keys of the exemplars | (n, k, A) |
| w | weights of the energy | (A,) |
| a = softmax_j w . tanh(q + p_j) | attention | (R, k) |
"""

import torch
from torch import Tensor

_ROWS = 16  # at a time: what they read and write stays in the cache


def attend(query: Tensor, keys: Tensor, weight: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Attention (R, k) and its average of the features (R, F), where row r reads keys[r] and features[r]."""
    # Not by a matrix product, whose rounding depends on the number of rows.
    energy = (torch.tanh(query[:, None] + keys) * weight).sum(dim=-1)
    attention = torch.softmax(energy, dim=-1)
    return attention, torch.bmm(attention[:, None], features).squeeze(1)


def attend_rows(query: Tensor, keys: Tensor, weight: Tensor, features: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """`attend` where row r reads keys[units[r]] and features[units[r]]; units: int64 (R,)."""
    if query.device.type == "cpu" and not torch.is_grad_enabled():
        return _on_cpu(query, keys, weight, features, units)
    parts = [
        attend(part, keys[of], weight, features[of])
        for of, part in zip(units.split(_ROWS), query.split(_ROWS), strict=True)
    ]
    return torch.cat([attention for attention, _ in parts]), torch.cat([context for _, context in parts])


def _on_cpu(query: Tensor, keys: Tensor, weight: Tensor, features: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    from conceptry.models.milan import attention_kernel as kernel

    attention = query.new_empty(len(units), keys.shape[1])
    context = query.new_empty(len(units), features.shape[2])
    limit = kernel.LIMIT
    values = [
        part
        for entries in (query, keys)
        for part in (
            entries,
            entries.clamp(-limit, limit).mul_(2).exp_(),
            entries.abs().amax(dim=tuple(range(1, entries.ndim))) > limit,
        )
    ]
    arrays = (part.detach().contiguous().numpy() for part in (*values, weight, features, units, attention, context))
    kernel.attend(*arrays)
    return attention, context
