"""What is published is what is computed now; the comparisons see small differences."""

from __future__ import annotations

import difflib
import math
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from paper_figures import comparing, figure1
from paper_figures.__main__ import main
from paper_figures.artefacts import ARTEFACTS, PUBLISHED, Artefact, named
from paper_figures.drawing import drawn_by, save

NAMES = [one.name for one in ARTEFACTS]

pytestmark = pytest.mark.xdist_group("published")  # in one process, which samples each Monte-Carlo dual once


@pytest.mark.parametrize("one", ARTEFACTS, ids=NAMES)
def test_published_is_computed(one: Artefact, tmp_path: Path) -> None:
    one.write(tmp_path)
    tables = (pd.read_csv(folder / f"{one.name}.csv") for folder in (PUBLISHED, tmp_path))
    found = comparing.differences(*tables, one.keys, one.tolerances)
    assert not found, "\n".join(found)
    if one.draw:
        pictures = (PUBLISHED / f"{one.name}.png", tmp_path / f"{one.name}.png")
        apart, allowed = comparing.picture_difference(*pictures), comparing.tolerance(*pictures)
        assert apart <= allowed, f"{one.name}.png differs by {apart:.2f} of 255, more than {allowed}: see {tmp_path}"
    if one.tell:
        old, new = ((folder / f"{one.name}.md").read_text("utf-8").splitlines() for folder in (PUBLISHED, tmp_path))
        changed = "\n".join(difflib.unified_diff(old, new, "published", "computed", n=0, lineterm=""))
        assert not changed, changed


def test_every_file_is_accounted_for() -> None:
    assert {path.name for path in PUBLISHED.iterdir()} == {name for one in ARTEFACTS for name in one.files}
    assert sum(path.stat().st_size for path in PUBLISHED.iterdir()) < 3_000_000  # they are in the repository


def test_names_are_single() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_numbers_that_differ_are_named() -> None:
    published = pd.read_csv(PUBLISHED / "figure3.csv")
    one = named(["figure3"])[0]
    assert comparing.differences(published, published.copy(), one.keys, one.tolerances) == []
    changed = published.copy()
    changed.loc[7, "robustness"] += 6e-6
    changed.loc[8, "on_frontier"] = not changed.loc[8, "on_frontier"]
    changed.loc[9, "robustness"] += 4e-6  # within the tolerance
    found = comparing.differences(published, changed, one.keys, one.tolerances)
    assert len(found) == 2
    old, new = published.loc[7, "robustness"], changed.loc[7, "robustness"]
    row = "row (ball=2.0, lam=5, family=Eq. 11, k=0, accuracy=0.7)"
    assert found[0] == f"{row}, column robustness: published {old}, computed {new}, tolerance 5e-06"
    assert "on_frontier: published False, computed True" in found[1]


def test_tables_of_another_shape_differ() -> None:
    frame = pd.DataFrame({"a": [1.0, math.nan, math.inf], "b": ["x", "y", "z"]})
    assert comparing.differences(frame, frame.copy(), ["b"], {}) == []
    assert comparing.differences(frame, frame.iloc[:2], ["b"], {}) == ["rows: published 3, computed 2"]
    assert "columns: published" in comparing.differences(frame, frame[["b", "a"]], ["b"], {})[0]
    assert comparing.differences(frame, frame.copy(), ["c"], {}) == ["columns ['c'] are not there"]
    for row, value in ((0, math.nan), (1, 0.0), (2, -math.inf), (0, 1.1)):
        other = frame.copy()
        other.loc[row, "a"] = value
        assert len(comparing.differences(frame, other, ["b"], {"a": 0.05})) == 1


def test_a_changed_curve_is_seen(tmp_path: Path) -> None:
    frame = figure1.compute()
    changed = frame.copy()
    changed.loc[(frame["panel"] == figure1.GROWING_K) & (frame["k"] == 40), "density"] *= 1.05
    first, again, other = (
        save(figure1.draw(data), tmp_path / name, "f")[1]
        for name, data in (("first", frame), ("again", frame), ("other", changed))
    )
    assert comparing.picture_difference(first, again) == 0.0
    assert comparing.picture_difference(first, other) > 4.0 * comparing.tolerance(first, other)
    small = save(figure1.draw(frame), tmp_path / "small", "f")[1]
    Image.open(small).crop((0, 0, 600, 600)).save(small)
    assert comparing.picture_difference(first, small) == math.inf


def test_pictures_of_another_version_are_compared_as_a_whole(tmp_path: Path) -> None:
    now = save(figure1.draw(figure1.compute(points=20)), tmp_path, "now")[1]
    assert drawn_by(now) == ".".join(matplotlib.__version__.split(".")[:2])
    info = PngInfo()
    info.add_text("Software", "matplotlib 3.7.1")
    with Image.open(now) as image:
        image.save(tmp_path / "old.png", pnginfo=info)
    assert drawn_by(tmp_path / "old.png") == "3.7"
    assert comparing.tolerance(now, now) == comparing.SAME_VERSION
    assert comparing.tolerance(tmp_path / "old.png", now) == comparing.OTHER_VERSION


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == NAMES
    assert main(["figure1", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"figure1.csv", "figure1.pdf", "figure1.png"}
    thinned = pd.read_csv(tmp_path / "figure1.csv")
    assert len(thinned) == 400
    whole = figure1.compute()
    assert np.isin(np.round(thinned["density"], 9), np.round(whole["density"], 9)).all()


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["figure1", "figure9"])
    assert stop.value.code == 2
    assert "nothing is published as figure9; choose from figure1, figure2" in capsys.readouterr().err
