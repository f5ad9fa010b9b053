import math

import pytest

from paper_figures import printed


def test_every_printed_radius_has_both_numbers():
    frame = printed.compute()
    assert len(frame) == 9 + 7 + 9 + 7 + 6
    unreadable = frame[frame["family"].isna()]
    assert unreadable[["table", "dataset", "shown"]].values.tolist() == [[2, "ImageNet", "1.5"]]
    assert frame["baseline"].between(0, 100).all()


#: As they stand in the printed tables, typed a second time: rows of baseline and family.
TYPED = {
    (1, "CIFAR-10"): ("62 49 38 30 23 19 17 14 12", "64 51 41 34 27 22 18 17 14"),
    (1, "ImageNet"): ("50 41 33 29 25 18 15", "51 42 36 30 26 22 16"),
    (2, "CIFAR-10"): ("60 43 34 23 17 14 12 10 8", "61 46 37 25 19 16 14 11 9"),
    (2, "ImageNet"): ("49 37 29 19 15 12 9", "50 39 - 21 17 13 10"),
    (3, "CIFAR-10"): ("58 42 31 25 18 13", "60 47 38 32 23 17"),
}


@pytest.mark.parametrize("part", printed.PRINTED, ids=lambda part: f"{part.table} {part.dataset}")
def test_numbers_were_copied_without_a_slip(part):
    shown = [" ".join("-" if math.isnan(x) else f"{x:g}" for x in row) for row in (part.baseline, part.family)]
    assert tuple(shown) == TYPED[part.table, part.dataset]


def test_accuracies_fall_with_the_radius():
    for _, part in printed.compute().groupby(["table", "dataset"]):
        assert part["radius"].is_monotonic_increasing
        assert part["baseline"].is_monotonic_decreasing
        assert part["family"].dropna().is_monotonic_decreasing


def test_linf_radii_are_in_pixels_of_255():
    part = printed.of(3, printed.CIFAR10)
    assert part.shown[0] == "2/255"
    assert math.isclose(part.radii[0], 2 / 255)


def test_what_is_not_printed_is_refused():
    with pytest.raises(KeyError, match="Table 3 for ImageNet"):
        printed.of(3, printed.IMAGENET)
