"""Tables and plots, and the numbers that files hold."""

from __future__ import annotations

import dataclasses
import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rs_plugin.distributions import Gaussian, Laplace, SmoothingDistribution
from rs_plugin.estimation import clopper_pearson_lower, clopper_pearson_upper
from rs_plugin.evaluation import evaluate
from rs_plugin.evaluation.results import Run, round_down
from rs_plugin.outcomes import Status
from rs_plugin.report.plots import plot_runs
from rs_plugin.report.tables import caption, percent, short_radius, text_table
from rs_plugin.smoothing import SmoothedClassifier
from tests.evaluation.toys import HalfSpace, images_of, labelled

SIGMA = 0.25
PROBABILITIES = np.array([0.999, 0.9, 0.02, 0.5, 0.98])
LABELS = [1, 1, 1, 0, 1]  # right, right, wrong, abstained, right


def made(
    threat: str = "L2", radii: Any = (0.0, 0.1, 0.3), noise: SmoothingDistribution | None = None, **more: Any
) -> Run:
    model = SmoothedClassifier(HalfSpace(), noise or Gaussian(SIGMA), 2)
    data = labelled(images_of(PROBABILITIES, SIGMA), LABELS)
    return evaluate(model, data, threat, radii, n0=50, alpha=0.01, store=None, **{"n": 400, **more})


@pytest.fixture(scope="module")
def fixed() -> Run:
    return made()


@pytest.fixture(scope="module")
def anytime() -> Run:
    return made(stopping="anytime")


def test_a_status_prints_as_its_value() -> None:
    """Alike in every Python, some of which print a member of such an enumeration as its name."""
    for status in Status:
        assert f"{status}" == str(status) == "%s" % status == status.value == status  # noqa: UP031
    assert f"{Status.CERTIFIED:>10}" == " certified"
    assert json.dumps([Status.WRONG]) == '["wrong"]'


class TestRounding:
    @settings(derandomize=True, deadline=None)
    @given(st.floats(0, 1e6), st.integers(0, 12))
    def test_radii_read_back_are_never_larger(self, value: float, digits: int) -> None:
        text = round_down(value, digits)
        assert float(text) <= value
        # One unit of the last decimal, and half a unit in the last place of the float, since text is read as one.
        assert Decimal(value) - Decimal(text) <= Decimal(10) ** -digits + Decimal(math.ulp(value))

    def test_listed_radii_read_back_as_they_are(self) -> None:
        for value in (0.1, 0.15, 0.3, 0.6, 0.7, 1.1, 1e25, 1.5e300):
            assert float(round_down(value, 6)) == value

    def test_what_is_no_number(self) -> None:
        assert (round_down(math.inf, 3), round_down(math.nan, 3)) == ("inf", "nan")

    @settings(derandomize=True, deadline=None)
    @given(st.floats(1e-9, 1e9))
    def test_headings_are_never_larger(self, value: float) -> None:
        assert value * (1 - 1.1e-5) <= float(short_radius(value)) <= value

    def test_headings_are_short(self) -> None:
        assert [short_radius(r) for r in (0.1, 0.25, 1.0, 10.0, 0.015, 255.0)] == [
            "0.1",
            "0.25",
            "1",
            "10",
            "0.015",
            "255",
        ]

    @settings(derandomize=True, deadline=None)
    @given(st.integers(1, 60_000), st.data())
    def test_percentages_are_the_decimal_below(self, count: int, data: st.DataObject) -> None:
        held = data.draw(st.integers(0, count))
        assert percent(held / count) == f"{held * 1000 // count / 10:.1f}"


class TestTable:
    def test_of_accuracies(self, fixed: Run) -> None:
        table = fixed.table()
        assert table["radius"].tolist() == [0.0, 0.1, 0.3]
        for i, radius in enumerate(fixed.radii):
            held = sum(o.holds_at(radius) for o in fixed.outcomes)
            assert table["certified_accuracy"][i] == held / 5
            assert table["certified_low"][i] == clopper_pearson_lower(held, 5, 0.025)
            assert table["certified_high"][i] == clopper_pearson_upper(held, 5, 0.025)
        assert table["certified_accuracy"][0] == table["smoothed_accuracy"][0] == 0.6
        assert table["abstained"][0] == 0.2
        assert (table["images"] == 5).all() and (table["draws"] == 5 * 450).all()
        assert (np.diff(table["required_probability"]) > 0).all() and table["required_probability"][0] == 0.5

    def test_of_anytime_runs_counts_the_draws_spent(self, anytime: Run) -> None:
        assert anytime.table()["draws"][0] == sum(o.n for o in anytime.outcomes) + 5 * 50 < 5 * 450
        assert anytime.table()["certified_accuracy"][0] == 0.6

    def test_of_records(self, fixed: Run) -> None:
        records = fixed.records()
        assert list(records) == ["index", "label", "prediction", "votes", "n", "p_lower", "radius", "status", "seconds"]
        assert records["label"].tolist() == LABELS
        assert records["status"].tolist() == ["certified", "certified", "wrong", "abstained", "certified"]
        assert records["prediction"].isna().tolist() == [False, False, False, True, False]
        assert records["prediction"].dropna().tolist() == [1, 1, 0, 1]
        assert all(sum(votes) == n == 400 for votes, n in zip(records["votes"], records["n"], strict=True))


class TestFiles:
    def test_tsv(self, fixed: Run, tmp_path: Path) -> None:
        path = fixed.to_tsv(tmp_path / "deep" / "run.tsv", digits=4)
        frame = pd.read_csv(path, sep="\t")
        assert list(frame) == ["idx", "label", "predict", "radius", "correct", "time"]
        assert frame["idx"].tolist() == [0, 1, 2, 3, 4] and frame["label"].tolist() == LABELS
        assert frame["predict"].tolist() == [1, 1, 0, -1, 1] and frame["correct"].tolist() == [1, 1, 0, 0, 1]
        for radius, outcome in zip(frame["radius"], fixed.outcomes, strict=True):
            assert outcome.radius - 1e-4 <= radius <= outcome.radius
        assert [p.name for p in path.parent.iterdir()] == ["run.tsv"]

    def test_tsv_of_anytime_runs_keeps_the_listed_radii(self, anytime: Run, tmp_path: Path) -> None:
        frame = pd.read_csv(anytime.to_tsv(tmp_path / "run.tsv"), sep="\t")
        assert set(frame["radius"]) == {o.radius for o in anytime.outcomes} and 0.3 in set(frame["radius"])

    def test_json_is_strict_and_exact(self, fixed: Run, tmp_path: Path) -> None:
        content = json.loads(fixed.to_json(tmp_path / "run.json").read_text(), parse_constant=pytest.fail)
        assert [r["p_lower"] for r in content["records"]] == [o.p_lower for o in fixed.outcomes]
        assert [r["radius"] for r in content["records"]] == [o.radius for o in fixed.outcomes]
        assert [r["prediction"] for r in content["records"]] == [1, 1, 0, None, 1]
        assert content["average_certified_radius"] == fixed.average_certified_radius
        assert content["table"][1]["certified_accuracy"] == fixed.table()["certified_accuracy"][1]
        assert content["config"]["n"] == 400 and content["key"] == fixed.key

    def test_json_of_anytime_runs_has_no_average(self, anytime: Run, tmp_path: Path) -> None:
        content = json.loads(anytime.to_json(tmp_path / "run.json").read_text(), parse_constant=pytest.fail)
        assert content["average_certified_radius"] is None


class TestText:
    def test_fits_a_terminal_however_many_radii(self) -> None:
        runs = [made(radii=np.linspace(0, 0.2, 17) + 1e-4, n=1000), made(radii=np.linspace(0, 0.2, 17) + 1e-4, n=999)]
        text = text_table(runs)
        assert max(len(line) for line in (text + "\n" + caption(runs)).splitlines()) <= 80
        heads = [word for line in text.splitlines() if line.startswith("L2 radius") for word in line.split()[5:]]
        assert heads == [short_radius(r) for r in runs[0].radii if r > 0]

    def test_shows_what_the_table_holds(self, fixed: Run) -> None:
        lines = text_table([fixed]).splitlines()
        assert lines[0].split() == ["L2", "radius", "base", "smth", "abst", "0.1", "0.3"]
        accuracy = [percent(a) for a in fixed.table()["certified_accuracy"][1:]]
        assert lines[1].split() == ["gaussian(sigma=0.25)", percent(fixed.base_accuracy), "60.0", "20.0", *accuracy]

    def test_has_a_block_for_each_threat_model_and_list_of_radii(self) -> None:
        runs = [made(), made("Linf", [0.1]), made("L2", [0.2])]
        assert [line.split()[0] for line in text_table(runs).splitlines() if " radius" in line] == ["L2", "L2", "Linf"]

    @pytest.mark.parametrize("stopping", ["fixed", "anytime"])
    @pytest.mark.parametrize("name", ["cifar10_jpeg", "imagenet_robustbench"])
    def test_captions_fit_whatever_the_data_set(self, stopping: str, name: str) -> None:
        data = dataclasses.replace(labelled(images_of(PROBABILITIES, SIGMA), LABELS), name=name)
        model = SmoothedClassifier(HalfSpace(), Gaussian(SIGMA), 2)
        run = evaluate(model, data, "L2", [0.1], stopping, 100, 100_000, 1e-3, store=None, n_examples=1)
        text = caption([run])
        assert max(map(len, text.splitlines())) <= 80 and f"of 1 image of '{name}'" in " ".join(text.split())
        assert "1 image of" in repr(run) and "1 image," in plot_runs([run]).get_suptitle()

    def test_anytime_runs_tell_their_draws(self, fixed: Run, anytime: Run) -> None:
        lines = text_table([anytime]).splitlines()
        assert lines[0].split() == ["L2", "radius", "draws", "base", "smth", "abst", "0.1", "0.3"]
        assert lines[1].split()[1] == f"{anytime.draws / 5:.0f}" and "draws: " in caption([anytime]).replace("\n", " ")
        assert "draws" not in text_table([fixed]) and "draws:" not in caption([fixed])
        wide = made(radii=np.linspace(0, 0.2, 17) + 1e-4, n=100_000, stopping="anytime")
        assert max(map(len, text_table([wide]).splitlines())) <= 80

    def test_noises_without_parameters(self) -> None:
        text = text_table([made(noise=Unit())])
        assert "unit" in text

    def test_caption_states_draws_alpha_and_the_certificates_share(self, fixed: Run, anytime: Run) -> None:
        assert "n0 = 50, n = 400," in caption([fixed]) and "alpha = 0.01" in caption([fixed])
        assert "n = 400 at most" in caption([anytime]) and "stopping anytime" in caption([anytime])
        assert "percentages are rounded down." in " ".join(caption([fixed]).split())
        assert "0.001 is the Monte-Carlo certificate's" in caption([made(method="monte_carlo")])


class Unit(Laplace):
    """A Laplace law without parameters of its own."""

    name = "unit"

    def __init__(self) -> None:
        super().__init__(0.2)

    def __str__(self) -> str:
        return "unit()"


class TestPlot:
    def test_has_one_panel_for_each_threat_model(self, fixed: Run, anytime: Run) -> None:
        figure = plot_runs([fixed, made("Linf", [0.1]), anytime])
        assert [panel.get_title() for panel in figure.axes] == ["L2", "Linf"]
        assert [len(panel.lines) for panel in figure.axes] == [2, 1]
        figure.draw_without_rendering()

    def test_curve_is_the_certified_accuracy_at_every_radius(self, fixed: Run) -> None:
        (line,) = plot_runs([fixed]).axes[0].lines
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        for radius in (0.0, 0.05, 0.1, 0.2, 0.31, 0.6):
            shown = y[np.flatnonzero(x <= radius)[-1]]
            assert shown == pytest.approx(100 * sum(o.holds_at(radius) for o in fixed.outcomes) / 5)

    def test_anytime_curves_are_what_listed_radii_certify(self, fixed: Run, anytime: Run) -> None:
        figure = plot_runs([anytime])
        (line,) = figure.axes[0].lines
        assert line.get_drawstyle() == "steps-pre" and line.get_marker() == "o"
        assert list(line.get_xdata()) == anytime.radii
        assert list(line.get_ydata()) == list(100 * anytime.table()["certified_accuracy"])
        assert "n <= 400," in figure.get_suptitle() and "n = 400," in plot_runs([fixed]).get_suptitle()
        labels = [text.get_text() for text in plot_runs([fixed, anytime]).axes[0].get_legend().get_texts()]
        assert labels == ["gaussian(sigma=0.25), fixed", "gaussian(sigma=0.25), anytime"]

    def test_legends_lie_below_their_panels(self, fixed: Run) -> None:
        figure = plot_runs([fixed, made("Linf", [0.1]), made("Linf", [0.1], Laplace(0.17677669529663687))])
        figure.draw_without_rendering()
        for panel in figure.axes:
            box = panel.get_legend().get_window_extent()
            assert figure.bbox.y0 <= box.y0 and box.y1 <= panel.xaxis.label.get_window_extent().y0
        assert figure.axes[1].get_legend().get_texts()[1].get_text() == "laplace(b=0.1768)"

    def test_nothing_certified(self) -> None:
        data = labelled(torch.full((2, 1, 2, 2), 0.5), [0, 0])
        model = SmoothedClassifier(HalfSpace(), Gaussian(SIGMA), 2)
        run = evaluate(model, data, "L2", [0.0], n0=10, n=50, alpha=0.01, store=None)
        figure = run.plot()
        figure.draw_without_rendering()
        assert [text.get_text() for text in figure.axes[0].texts] == ["no image certified"]
        assert figure.axes[0].get_legend().get_texts()[0].get_text().startswith("gaussian(sigma=0.25), abstained on")
        assert [text.get_text() for text in plot_runs([run, made()]).axes[0].texts] == []
        assert run.table()["certified_accuracy"].tolist() == [0.0]
