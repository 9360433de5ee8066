"""Entry points under the names and arguments of the published code, for scripts that were written for it.

Ren, Li, Chen, Deng, Zhang, "Defining and Quantifying the Emergence of Sparse Concepts in DNNs", CVPR 2023,
arXiv:2111.06206; https://github.com/sjtu-xai-lab/aog. Each is a thin form of what this package has:

| here | is |
|---|---|
| AndHarsanyi | `Harsanyi.of_tensor` |
| AndBaselineSparsifier | `sparsify` with steps along the gradient |
| remove_noisy_greedy | `denoise` |
| aggregate_pattern_iterative | `aggregate` by its published rule |
| construct_AOG, AOG.visualize | `build_graph`, `AndOrGraph.save` |

`selected_dim` says what v(S) is, with "-v0" behind it minus v(empty):

| selected_dim | reward |
|---|---|
| None | the output itself, one number for each input |
| 0, gt, max | output 0, output y, the largest output of the sample |
| gt-log-odds, max-log-odds | log-odds of a class from logits; with "_t=T" of logits over T |
| gt-logistic-odds, logistic-odds | a single logit, negated for class 0 |
| gt-prob-log-odds, prob-log-odds | log-odds from a single probability, of 1 minus it for class 0 |

"gt" is class y, and without it the class that the model predicts.

Differences: float64; log-odds of logits are exact, so they do not end near +-16.1; the sparsifier returns the best
iterate, not the last; players of one name are numbered.
"""

from conceptry.models.harsanyi.original.calculator import AndBaselineSparsifier, AndHarsanyi
from conceptry.models.harsanyi.original.graph import AOG, construct_AOG
from conceptry.models.harsanyi.original.patterns import aggregate_pattern_iterative, remove_noisy_greedy

__all__ = [
    "AOG",
    "AndBaselineSparsifier",
    "AndHarsanyi",
    "aggregate_pattern_iterative",
    "construct_AOG",
    "remove_noisy_greedy",
]
