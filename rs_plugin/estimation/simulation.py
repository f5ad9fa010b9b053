"""What a stopping rule would do with draws of known probability."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from rs_plugin.estimation.arguments import IntArray, check_probabilities

#: From successes and draws so far to the total of draws at which to look next; that number again where it is time to
#: stop. ``StoppingRule.next_look`` is one.
NextLook = Callable[[IntArray, IntArray], IntArray]


def simulate_stopping(p: ArrayLike, next_look: NextLook, generator: np.random.Generator) -> tuple[IntArray, IntArray]:
    """Draw until a rule stops, once for each probability.

    Args:
        p: probabilities of success in [0, 1], shape ``(images,)``.
        next_look: the rule.
        generator: of the draws.

    Returns:
        Successes and draws at the end, integers of shape ``(images,)``.

    Raises:
        ParameterError: a probability outside [0, 1].
    """
    chance = np.atleast_1d(check_probabilities("p", p))
    s, n = np.zeros(len(chance), np.int64), np.zeros(len(chance), np.int64)
    going = np.arange(len(chance))
    while len(going):
        total = next_look(s[going], n[going])
        more = total > n[going]
        going, total = going[more], total[more]
        s[going] += generator.binomial(total - n[going], chance[going])
        n[going] = total
    return s, n
