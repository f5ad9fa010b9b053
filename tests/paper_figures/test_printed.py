import math

import pytest

from paper_figures import printed


def test_every_printed_radius_has_both_numbers():
    frame = printed.compute()
    assert len(frame) == 9 + 7 + 9 + 7 + 6
    unreadable = frame[frame["family"].isna()]
    assert unreadable[["table", "dataset", "shown"]].values.tolist() == [[2, "ImageNet", "1.5"]]
    assert frame["baseline"].between(0, 100).all()


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
