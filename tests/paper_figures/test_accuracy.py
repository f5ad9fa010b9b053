import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from paper_figures.accuracy import BEST, CHOSEN, Menu, cell


def menu_of(*rows):
    """A menu of one radius; each row says which images a candidate certifies."""
    held = np.array(rows, dtype=bool)[:, :, None]
    return Menu(tuple("abc"[: len(rows)]), held, np.ones((len(rows), 1), dtype=bool))


def test_best_is_best_on_all_images():
    held, names = menu_of([1, 0, 1, 0], [1, 1, 1, 0]).best()
    assert names == ["b"]
    assert held[:, 0].tolist() == [True, True, True, False]


def test_each_half_is_certified_with_what_is_best_on_the_other():
    # Even images: a certifies both, b none. Odd images: b certifies both, a none. So each half gets the wrong one.
    options = menu_of([1, 0, 1, 0], [0, 1, 0, 1])
    held, names = options.chosen()
    assert not held.any()
    assert names == ["b / a"]


def test_a_candidate_that_is_best_everywhere_is_chosen_everywhere():
    held, names = menu_of([1, 1, 0, 1], [0, 0, 0, 0]).chosen()
    assert names == ["a"]
    assert held[:, 0].tolist() == [True, True, False, True]


def test_a_tie_goes_to_the_first():
    assert menu_of([1, 0], [0, 1], [1, 1]).best()[1] == ["c"]
    assert menu_of([1, 0], [0, 1]).best()[1] == ["a"]


def test_nothing_is_chosen_where_nothing_is_in_reach():
    held = np.zeros((2, 4, 3), dtype=bool)
    held[0, :, 0] = True
    options = Menu(("a", "b"), held, np.array([[True, False, False], [True, True, False]]))
    assert options.in_reach.tolist() == [True, True, False]
    assert options.best()[1] == ["a", "a", ""]
    assert options.chosen()[1] == ["a", "a", ""]


def test_choosing_on_the_test_images_is_never_worse_there():
    generator = np.random.default_rng(0)
    for _ in range(20):
        options = Menu(("a", "b", "c"), generator.uniform(size=(3, 40, 5)) < 0.5, np.ones((3, 5), dtype=bool))
        assert (options.by(BEST)[0].sum(axis=0) >= options.by(CHOSEN)[0].sum(axis=0)).all()


def test_choosing_among_equals_on_the_test_images_flatters_and_on_others_does_not():
    """All candidates certify each image with probability 1/2: what is chosen elsewhere keeps 1/2 on average."""
    generator = np.random.default_rng(1)
    best, chosen = [], []
    for _ in range(400):
        held = generator.uniform(size=(8, 50, 1)) < 0.5
        options = Menu(tuple("abcdefgh"), held, np.ones((8, 1), dtype=bool))
        best.append(options.best()[0].mean())
        chosen.append(options.chosen()[0].mean())
    standard_error = 0.5 / np.sqrt(50 * 400)
    assert abs(np.mean(chosen) - 0.5) < 5 * standard_error
    assert np.mean(best) > 0.5 + 20 * standard_error


@pytest.mark.parametrize("count", [0, 1, 30, 100])
def test_intervals_are_clopper_and_pearsons(count):
    held = np.arange(100) < count
    low, high = proportion_confint(count, 100, alpha=0.05, method="beta")
    found = cell(held)
    assert found["certified"] == count
    assert found["images"] == 100
    assert found["low"] == pytest.approx(100 * low, abs=1e-6)  # beta quantiles are good to 1e-8 or so
    assert found["high"] == pytest.approx(100 * high, abs=1e-6)
