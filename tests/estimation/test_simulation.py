import numpy as np
import pytest
from scipy import stats

from rs_plugin import ParameterError
from rs_plugin.estimation import StoppingRule
from rs_plugin.estimation.simulation import simulate_stopping


def until(limit):
    """A rule that looks after 10, 20, 40, ... draws and stops at the limit."""
    return lambda s, n: np.minimum(np.where(n == 0, 10, 2 * n), limit)


def test_certain_draws_all_fall_alike():
    s, n = simulate_stopping([0.0, 1.0], until(1000), np.random.default_rng(0))
    assert s.tolist() == [0, 1000]
    assert n.tolist() == [1000, 1000]


def test_successes_of_a_rule_that_never_stops_early_are_binomial():
    s, _ = simulate_stopping(np.full(4000, 0.3), until(50), np.random.default_rng(1))
    seen = np.bincount(s, minlength=51)
    edges = [0, 10, 12, 14, 16, 18, 20, 51]
    law = np.diff(stats.binom.cdf(np.array(edges) - 1, 50, 0.3))
    counts = np.add.reduceat(seen, edges[:-1])
    assert stats.chisquare(counts, 4000 * law / law.sum()).pvalue > 1e-4  # the test fails so often by chance


def test_each_image_stops_by_itself():
    rule = StoppingRule([0.5], [10_000], 1e-3, 64)
    _, n = simulate_stopping([0.99, 0.55, 0.2], rule.next_look, np.random.default_rng(2))
    assert n[0] < n[1]
    assert n[2] < n[1]


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_probabilities_are_checked(p):
    with pytest.raises(ParameterError, match="p"):
        simulate_stopping([p], until(10), np.random.default_rng(0))
