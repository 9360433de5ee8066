"""The hyperparameters of an explanation by Harsanyi interactions: what distinguishes one registered version."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from conceptry.models.errors import InputError, closest
from conceptry.models.explained.protocol import ExplainedModel
from conceptry.models.explained.source import ExplainedSource
from conceptry.models.method import Work, check_options, keep_plain_numbers, option

MAX_PLAYERS = 20  # of a table over all subsets
REWARDS = ("log_odds", "log_odds_eps", "logit", "probability", "output")  # see `game`
INTERACTIONS = ("and", "and-or")
ENGINES = AUTO, EXACT, TREES, SAMPLED = ("auto", "exact", "trees", "sampled")
MAX_SAMPLED, LEAST_BUDGET, MOST_BUDGET = 1000, 128, 2**20  # players of a sampled game, and the rewards it may ask
LEARNED, ROW, ROWS, SAMPLE, TOKEN = "learned", "row", "rows", "sample", "token"
MOST_BASELINES = 1000  # rows, each of which is asked with every subset
PREDICTED = "predicted"
_DEFAULT_PLAYERS = {"table": "columns", "text": "words", "image": "grid:3x3", "points": "clusters:10"}
_DEFAULT_BASELINE = {"table": "mean", "text": "token", "image": "mean", "points": "centroid"}
_BASELINES = {
    "table": ("mean", "median", "mode", LEARNED, ROW, ROWS, SAMPLE),
    "text": (TOKEN, "delete", LEARNED),
    "image": ("mean", "blur", LEARNED),
    "points": ("centroid", LEARNED),
}
_POSITIVE = (
    *("temperature", "split_tolerance", "learning_rate", "learning_range"),
    *("thres_square_error", "thres_explain_ratio"),
)


@dataclass(frozen=True)
class Settings:
    """What is asked of a model, against which baseline, and what counts as noise.

    Fields that are None are filled by `for_model`.
    """

    reward: str | None = option(
        None,
        "What v(S) measures. [default: log_odds for a classifier, probability where that is 0 or 1 exactly, output "
        "for a regressor]",
        REWARDS,
    )
    target: str = option(PREDICTED, "Output to explain: a class by name or index, or predicted.")
    temperature: float = option(1.0, "Temperature that divides the logits.")
    subtract_empty: bool = option(False, "Subtract v(empty), so that the empty pattern has no effect.")
    interactions: str = option("and", "Kind of interactions; and-or splits v into an AND and an OR part.", INTERACTIONS)
    engine: str = option(
        "auto",
        "How interactions are found. exact: of all subsets of players; trees: of the trees of an ensemble, exactly, at "
        "any width; sampled: of a budget of subsets, with R2 on others. auto: trees where the reward is a sum over "
        "trees, else exact up to max_players and sampled beyond.",
        ENGINES,
    )
    budget: int = option(4096, "Maximum number of masked inputs for the engine sampled.")
    min_r2: float = option(0.8, "R2 on held-out masks below which an answer says that it should not be believed.")
    seed: int = option(0, "Seed of the engine sampled, and of a baseline that is drawn.")
    split_tolerance: float = option(1e-3, "Relative duality gap at which an AND-OR split has converged.")
    baseline: str | None = option(
        None,
        "Value of absent players. Tables: mean, median, mode, learned, row:FILE, or the mean over several rows, "
        "rows:FILE or sample:K of the statistics; texts: token, token:WORD, delete or learned; images: mean, blur or "
        "learned; points: centroid or learned. [default: mean for tables and images; centroid for points; for texts "
        "token if the model has one, else delete]",
    )
    players: str | None = option(
        None,
        "Groups of inputs. Tables: columns, or a JSON file {player: [columns]}; texts: words, or words:K for K groups; "
        "images: grid:RxC or slic:K; points: clusters:K. [default: columns, words, grid:3x3 or clusters:10]",
    )
    background: str = option(
        "", 'Comma-separated columns that are always present, or a JSON list of them, as ["distance, km", "c"].'
    )
    max_players: int = option(
        13, f"Maximum number of players of the engine exact, up to {MAX_PLAYERS}; each one doubles the model calls."
    )
    learning_steps: int = option(50, "Gradient steps of a learned baseline.")
    learning_rate: float = option(0.04, "Initial step size of a learned baseline, in units of the features' spread.")
    learning_range: float = option(0.2, "Largest distance of a learned baseline from its start, in the same units.")
    min_patterns: int = option(15, "Number of patterns at which denoising stops.")
    max_patterns: int = option(80, "Maximum number of patterns to keep.")
    n_greedy: int = option(20, "Number of weakest patterns that compete for removal.")
    thres_square_error: float = option(0.1, "Largest squared error of the kept patterns, relative to the squares of v.")
    thres_explain_ratio: float = option(
        0.95, "Smallest explain ratio: strength of the kept patterns over itself plus |sum of the removed|."
    )
    batch_size: int = option(4096, "Masked inputs per model call; fewer if an input is large.")

    def __post_init__(self) -> None:
        keep_plain_numbers(self)
        for name in _POSITIVE:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} must be a finite number above 0, got {value}")
        for name in ("learning_steps", "min_patterns", "max_patterns", "n_greedy", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.min_patterns > self.max_patterns:
            raise InputError(f"min_patterns ({self.min_patterns}) must not exceed max_patterns ({self.max_patterns})")
        if not LEAST_BUDGET <= self.budget <= MOST_BUDGET:
            raise InputError(f"budget must be {LEAST_BUDGET} to {MOST_BUDGET:,}, got {self.budget}")
        if not (math.isfinite(self.min_r2) and self.min_r2 <= 1):
            raise InputError(f"min_r2 must be a number of at most 1, got {self.min_r2}")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed must be 0 to 2^32 - 1, got {self.seed}")
        if not 1 <= self.max_players <= MAX_PLAYERS:
            raise InputError(f"max_players must be 1 to {MAX_PLAYERS}, got {self.max_players}; group players instead")

    def for_model(self, model: ExplainedModel) -> "Settings":
        """These settings with everything left open filled for one model.

        Raises InputError for a baseline that such a model does not have.
        """
        modality = model.modality
        # Deletion is the only way to take a word from a model that knows no token for "no word".
        no_token = modality == "text" and getattr(model, "mask_token", None) is None
        baseline = self.baseline or ("delete" if no_token else _DEFAULT_BASELINE[modality])
        kind, colon, _ = baseline.partition(":")
        if kind not in _BASELINES[modality] or (colon and kind not in (TOKEN, SAMPLE)):
            expected = ", ".join(_BASELINES[modality])
            raise InputError(f"a {modality} model has no baseline {baseline!r}; expected one of {expected}")
        if baseline == LEARNED and self.engine in (TREES, SAMPLED):
            raise InputError(f"a learned baseline asks all subsets; expected engine exact or auto, got {self.engine}")
        if self.engine == TREES and modality != "table":
            raise InputError(f"engine trees explains tree ensembles over a table; this is a {modality} model")
        if self.background and modality != "table":
            raise InputError(f"background names columns of a table; this is a {modality} model")
        return dataclasses.replace(
            self,
            reward=self.reward or default_reward(model),
            baseline=baseline,
            players=self.players or _DEFAULT_PLAYERS[modality],
        )

    @property
    def learns_baseline(self) -> bool:
        return self.baseline == LEARNED

    @property
    def baseline_is_rows(self) -> bool:
        """Whether the baseline is one or several rows of a table, kept beside the settings."""
        return str(self.baseline).partition(":")[0] in (ROW, ROWS, SAMPLE)

    @property
    def most_players(self) -> int | None:
        """How many players are accepted before anything is asked of the model; None is any number."""
        if self.engine == EXACT or self.learns_baseline:
            return self.max_players
        return MAX_SAMPLED if self.engine == SAMPLED else None

    def background_columns(self, columns: Sequence[str]) -> tuple[str, ...]:
        """The names in `background`, of a table of `columns`: one name, names with commas between them, or a JSON list.

        Raises InputError where it is none of these.
        """
        text = self.background
        if text in columns:
            return (text,)
        if text.lstrip().startswith("["):
            try:
                names = json.loads(text)
            except ValueError as error:
                raise InputError(f"background {text}: not a JSON list of columns ({error})") from None
        else:
            names = [name.strip() for name in text.split(",") if name.strip()]
        for name in names:
            if name not in columns:
                raise InputError(
                    f"background: there is no column {name!r}; expected columns among {', '.join(columns)}, with "
                    'commas between them, or as a JSON list such as ["distance, km", "c"] where names hold any'
                )
        return tuple(names)

    def denoising(self) -> dict[str, float]:
        """The keywords of `denoise`."""
        names = ("min_patterns", "max_patterns", "n_greedy", "thres_square_error", "thres_explain_ratio")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class HarsanyiOptions(Settings, ExplainedSource):
    """What distinguishes one Harsanyi version from another."""

    def settings(self) -> Settings:
        """The part that says how to explain."""
        return Settings(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)})


def default_reward(model: ExplainedModel) -> str:
    """log_odds of a classifier; its probability where that is exactly 0 or 1 for an example, as a forest's is."""
    if model.form == "values":
        return "output"
    return "probability" if getattr(model, "certain", False) else "log_odds"


OPTIONS = HarsanyiOptions
WORK = Work(2**22, "masked inputs, 2^players a row or the budget of a sampled one", "fewer players")
SUMMARY = "Register a harsanyi explainer: finds the groups of inputs that a model uses together."


def changed_settings(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """Settings with some changed by name. Raises InputError for unknown names and for values of another type."""
    names = [field.name for field in dataclasses.fields(Settings)]
    for name in options:
        if name not in names:
            near = closest(name, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(names)}"
            raise InputError(f"unknown setting {name!r} of harsanyi{hint}")
    options = dict(options)
    if type(options.get("target")) is int:
        options["target"] = str(options["target"])
    check_options(Settings, options)
    return dataclasses.replace(settings, **options)
