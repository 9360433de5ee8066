"""The counterfactual of fewest pixels that still changes the prediction: a search over epsilon, q and pixels.

Every round gives each picture SLOTS attempts, all in one batch, each with an epsilon, a q and a set of pixels of its
own; an attempt ends at the first step at which the network is sure enough. Three phases narrow three brackets:

| phase | bracket |
|---|---|
| epsilon, of each q of a ladder | a radius too small, and one that flips the prediction; bisected geometrically |
| q, at the best radius and twice that | the q of the best attempt, and the next of the ladder; 1 - q geometrically |
| pixels, at the same radii | the most of its strongest pixels that did not do, and all that the best attempt changed |

| symbol | meaning | shape |
|---|---|---|
| lo, hi | bracket | (batch, SLOTS) of epsilon, (batch, 1) of pixels |

Neither the number of changed pixels nor success is monotone in these numbers, so the least attempt that was seen is
returned, not where a bracket ends; a picture for which nothing succeeds gets its most confident attempt. The search is
heuristic: it proves no attempt to be the sparsest.
"""

import dataclasses
from dataclasses import dataclass, field

import torch
from torch import Tensor

from conceptry.models.perturbation.explanation import Explanation, PathPoint, changed_pixels, join, take
from conceptry.models.perturbation.question import Question, ShareProgress, judge, part_of, run
from conceptry.models.perturbation.settings import Settings
from conceptry.models.perturbation.solvers.budget import strongest_pixels

LADDER = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99)
SLOTS = len(LADDER)
EPSILON_ROUNDS, Q_ROUNDS, PIXEL_ROUNDS = 4, 1, 3
ROUNDS = EPSILON_ROUNDS + Q_ROUNDS + PIXEL_ROUNDS
_SHARES = torch.arange(1, SLOTS // 2 + 1, dtype=torch.float64) / (SLOTS // 2 + 1)  # of the way through a bracket
CONFIDENCE = 0.5  # where the settings have none: the target is more probable than all others together
ROUNDING = 0.01  # of a probability, which rounding the picture to 8 bits may cost


@dataclass
class _Search:
    """The attempts so far, and the best one of each picture with its rank, which is low where it is good.

    An attempt succeeds where it flips the prediction with a probability of at least `least`.
    """

    question: Question
    settings: Settings
    least: float
    progress: ShareProgress | None
    round: int = 0
    best: Explanation | None = None
    rank: Tensor = field(default_factory=lambda: torch.empty(0))
    path: list[list[PathPoint]] = field(default_factory=list)

    @property
    def best_attempts(self) -> Explanation:
        """The best attempt of each picture; there is one after the first round."""
        assert self.best is not None
        return self.best

    def attempt(self, epsilon: Tensor, q: Tensor, pixels: Tensor | None = None) -> Tensor:
        """One round, all (batch, SLOTS); returns which succeed. pixels: the best one's strongest that may change."""
        rows = torch.arange(len(epsilon)).repeat_interleave(SLOTS)
        question = self.question.take(rows.to(self.question.start.device))
        support = None
        if pixels is not None:
            support = strongest_pixels(self.best_attempts.delta[rows], pixels.flatten()).to(question.start.device)
        solution = run(
            question,
            self.settings,
            epsilon=epsilon.flatten(),
            q=q.flatten(),
            support=support,
            progress=part_of(self.progress, self.round, 1, ROUNDS),
        )
        tried = judge(question, self.settings, solution, epsilon.flatten(), q.flatten())
        confidence = confidence_of(tried)
        succeeds = tried.success & (confidence >= self.least)
        self._note(tried, confidence, succeeds, pixels)
        self.round += 1
        return succeeds.view(-1, SLOTS)

    def _note(self, tried: Explanation, confidence: Tensor, succeeds: Tensor, pixels: Tensor | None) -> None:
        """Add the attempts to the path, and take those that are better than the best."""
        allowed = [None] * len(tried) if pixels is None else pixels.flatten().tolist()
        self.path = self.path or [[] for _ in range(len(tried) // SLOTS)]
        for i, bound in enumerate(allowed):
            self.path[i // SLOTS].append(
                PathPoint(
                    self.round,
                    float(tried.q[i]),
                    float(tried.epsilon[i]),
                    bound,
                    float(tried.changed[i]),
                    float(confidence[i]),
                    bool(succeeds[i]),
                )
            )
        # Those that succeed come first: fewest pixels, then the most confident; those that do not by confidence.
        rank = torch.where(succeeds, tried.changed - 1e-9 * confidence, 2 - confidence).view(-1, SLOTS)
        least, slot = rank.min(1)
        challenger = take(tried, slot + SLOTS * torch.arange(len(rank)))
        if self.best is None:
            self.best, self.rank = challenger, least
            return
        better = least < self.rank
        self.rank = torch.where(better, least, self.rank)
        both = join([self.best, challenger], [range(len(rank)), range(len(rank), 2 * len(rank))])
        self.best = take(both, torch.arange(len(rank)) + len(rank) * better)


def search_sparsest(question: Question, settings: Settings, *, progress: ShareProgress | None = None) -> Explanation:
    """The counterfactual of fewest changed pixels that was found for each picture, with all attempts as its path.

    Where the settings name a confidence, it has to be as probable as that, less ROUNDING.
    """
    least = 0.0 if settings.confidence is None else settings.confidence - ROUNDING
    search = _Search(
        question, dataclasses.replace(settings, confidence=settings.confidence or CONFIDENCE), least, progress
    )
    _epsilon_phase(search)
    _q_phase(search)
    _pixel_phase(search)
    return dataclasses.replace(search.best_attempts, path=tuple(map(tuple, search.path)))


def confidence_of(explanation: Explanation) -> Tensor:
    """Probability of the target after, or of all classes but the source where nothing was targeted: (batch,)."""
    of = torch.where(explanation.targeted, explanation.targets, explanation.sources)
    p = explanation.after.gather(1, of[:, None])[:, 0].double()
    return torch.where(explanation.targeted, p, 1 - p)


def _epsilon_phase(search: _Search) -> None:
    """Bisect the radius of every q of the ladder, after doubling it until the prediction flips."""
    radii = [search.settings.radius(search.question.entries, q) for q in LADDER]
    epsilon, q = (
        torch.tensor(values, dtype=torch.float64).repeat(len(search.question.start), 1) for values in (radii, LADDER)
    )
    lo, hi = torch.zeros_like(epsilon), torch.full_like(epsilon, torch.inf)
    for _ in range(EPSILON_ROUNDS):
        flips = search.attempt(epsilon, q)
        hi, lo = torch.where(flips, epsilon, hi), torch.where(flips, lo, epsilon)
        epsilon = torch.where(hi.isinf(), 2 * lo, torch.where(lo > 0, (lo * hi).sqrt(), hi / 2))


def _q_phase(search: _Search) -> None:
    """Between the q of the best attempt and the next one of the ladder, at the best radius and at twice that."""
    rungs = torch.tensor((*LADDER, 1.0), dtype=torch.float64)
    one_entry = torch.tensor(1 / search.question.entries, dtype=torch.float64)
    for _ in range(Q_ROUNDS):
        best = search.best_attempts
        sparser = rungs[(rungs <= best.q[:, None]).sum(1)]
        dense, sparse = (torch.maximum(1 - q, one_entry)[:, None] for q in (best.q, sparser))
        kept = dense ** (1 - _SHARES) * sparse**_SHARES
        search.attempt(_two_radii(best), 1 - kept.repeat(1, 2))


def _pixel_phase(search: _Search) -> None:
    """Fewer and fewer of the best attempt's strongest pixels, at its q, at its radius and at twice that."""
    lo = torch.zeros(len(search.best_attempts), 1, dtype=torch.int64)
    for _ in range(PIXEL_ROUNDS):
        best = search.best_attempts
        hi = changed_pixels(best.delta)[:, None]
        pixels = (lo + (hi - lo) * _SHARES).long().clamp(min=1)
        flips = search.attempt(_two_radii(best), best.q[:, None].expand(-1, SLOTS), pixels.repeat(1, 2))
        failed = torch.where(flips.unflatten(1, (2, -1)).any(1), 0, pixels).amax(1, keepdim=True)
        lo = torch.minimum(torch.maximum(lo, failed), changed_pixels(search.best_attempts.delta)[:, None])


def _two_radii(best: Explanation) -> Tensor:
    """The best radius for half of the slots and twice that for the others, (batch, SLOTS)."""
    return torch.stack([best.epsilon, 2 * best.epsilon], 1).repeat_interleave(SLOTS // 2, 1)
