"""From counts of votes to confidence bounds of probabilities.

* ``intervals``: Clopper-Pearson bounds, for numbers of draws fixed beforehand.
* ``sequential``: the two-sided confidence sequence of the uniform mixture, valid at any time.
* ``one_sided``: the lower confidence sequence, tighter where only a lower bound is needed.
* ``looks``: when a sequential test stops, and when it looks next.
* ``simulation``: what a rule would do with draws of known probability.
* ``remaining``: how many draws a run still takes.
* ``votes``: choosing the class on its own draws, and the bound that carries direction and failure probability.
* ``budget``: how the failure probability of an image is shared.
* ``arguments``, ``search``: checks of the arguments, and root finders that return the safe end.
"""

from rs_plugin.estimation.arguments import check_alpha
from rs_plugin.estimation.budget import AlphaBudget
from rs_plugin.estimation.intervals import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    least_trials,
    multiclass_bounds,
)
from rs_plugin.estimation.looks import StoppingRule
from rs_plugin.estimation.one_sided import exceeds, lower_sequence
from rs_plugin.estimation.remaining import draws_left
from rs_plugin.estimation.sequential import (
    confidence_sequence,
    excludes_below,
    least_trials_anytime,
    log_truncated_mixture,
    wald_limit,
)
from rs_plugin.estimation.votes import VoteBound, bound_fixed, select_class

__all__ = [
    "AlphaBudget",
    "StoppingRule",
    "VoteBound",
    "bound_fixed",
    "check_alpha",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "confidence_sequence",
    "draws_left",
    "exceeds",
    "excludes_below",
    "least_trials",
    "least_trials_anytime",
    "log_truncated_mixture",
    "lower_sequence",
    "multiclass_bounds",
    "select_class",
    "wald_limit",
]
