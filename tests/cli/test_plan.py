"""``rs-plugin plan``: the options of ``evaluate``, what it prints, and what it refuses."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest

from rs_plugin.cli.main import build_parser
from tests.cli.conftest import Cli

QUICK = ["--n-examples", "20", "--seconds", "0.3"]
ONE = ["--model", "digits_gaussian_0.25", *QUICK]


def options_of(subcommand: str) -> set[str]:
    parser = build_parser()
    subparsers = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return {flag for action in subparsers.choices[subcommand]._actions for flag in action.option_strings}


def test_it_takes_what_evaluate_takes() -> None:
    assert options_of("evaluate") - options_of("plan") == {"--attack", "--attack-n", "--bank", "--output"}
    assert options_of("plan") - options_of("evaluate") == {"--seconds", "--machines", "--price"}


@pytest.mark.parametrize("how", [["--n", "2000"], ["--stopping", "anytime", "--n", "50000", "--machines", "3"]])
def test_it_prints_a_narrow_table(cli: Cli, how: list[str]) -> None:
    code, out, err = cli("plan", *ONE, "--price", "2.5", *how)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    for word in ("images", "passes of the network", "time", "cost", "memory", "vote store", "expected", "at worst"):
        assert word in out
    assert list(Path().iterdir()) == [], "nothing is written"


def test_a_fixed_run_has_one_number_of_passes(cli: Cli) -> None:
    _, out, _ = cli("plan", *ONE, "--n", "2000", "--radii", "0.1")
    row = next(line for line in out.splitlines() if line.startswith("passes"))
    assert re.findall(r"[\d,]+", row) == ["43,520"] * 2  # 20 images of 2 + 32 chunks of 64 draws


def test_without_a_model_it_plans_the_comparison(cli: Cli) -> None:
    code, out, err = cli("plan", *QUICK, "--json")
    assert (code, err.count("\n")) == (0, 1), "the one noise that evaluate warns of too"
    plans = json.loads(out)["plans"]
    assert [plan["threat_model"] for plan in plans] == sorted(plan["threat_model"] for plan in plans)
    assert len({plan["noise"] for plan in plans}) > 4
    assert all(plan["passes"]["worst"] == 20 * 64 * (2 + 16) for plan in plans)


def test_stored_images_are_told_of(cli: Cli) -> None:
    cli("evaluate", *ONE[:2], "--n-examples", "5", "--n", "500", "--radii", "0.1")
    _, out, _ = cli("plan", *ONE, "--n", "500", "--radii", "0.1")
    assert re.search(r"^images +15, 5 more are stored$", out, re.MULTILINE)


def test_radii_out_of_reach_are_told_of_in_one_line(cli: Cli) -> None:
    code, _, err = cli("plan", *ONE, "--n", "100", "--radii", "0.9", "1.0")
    assert code == 0
    assert err.count("\n") == 1
    assert "cannot certify the radii 0.9, 1" in err


@pytest.mark.parametrize("how", [["--seconds", "0"], ["--price", "-1"], ["--machines", "0"], ["--executor", "dask"]])
def test_bad_input_ends_in_one_line(cli: Cli, how: list[str]) -> None:
    code, out, err = cli("plan", *ONE, *how)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_nothing_left_takes_no_time(cli: Cli) -> None:
    cli("evaluate", *ONE[:4], "--n", "500", "--radii", "0.1")
    _, out, _ = cli("plan", *ONE, "--n", "500", "--radii", "0.1")
    assert re.search(r"^time +0 s +0 s$", out, re.MULTILINE)


def test_sound_runs_are_told_apart(cli: Cli) -> None:
    for sound in ([], ["--sound", "16"], ["--sound", "32"]):
        _, out, _ = cli("evaluate", *ONE[:2], "--n-examples", "3", "--n", "200", "--radii", "0.1", *sound)
        assert ("Noise is exact, on a grid of 1/" in " ".join(out.split())) == bool(sound)
    _, out, _ = cli("recertify")
    text = " ".join(out.split())
    assert text.count("exact noise on a grid of 1/16") == text.count("exact noise on a grid of 1/32") == 1


def test_attacks_on_a_grid_are_refused_before_any_work(cli: Cli) -> None:
    code, out, err = cli("evaluate", *ONE[:2], "--sound", "16", "--attack", "pgd")
    assert (code, out) == (2, "")
    assert "--attack moves images off the grid that --sound counts on" in err
    assert not Path("runs.sqlite").exists()


@pytest.mark.parametrize(("line", "levels"), [("sound = 16", 16), ("sound = false", 0)])
def test_sound_in_a_configuration(cli: Cli, line: str, levels: int) -> None:
    Path("c.toml").write_text(f"{line}\n", encoding="utf-8")
    small = ["--n-examples", "3", "--n", "200", "--radii", "0.1", "--json"]
    code, out, err = cli("evaluate", *ONE[:2], *small, "--config", "c.toml")
    assert (code, err) == (0, "")
    assert json.loads(out)["runs"][0]["config"].get("sound", 0) == levels


def test_a_switch_for_sound_in_a_configuration(cli: Cli) -> None:
    Path("c.toml").write_text("sound = true\n", encoding="utf-8")
    code, _, err = cli("evaluate", *ONE[:2], "--n", "200", "--config", "c.toml")
    assert code == 2
    assert "multiples of 1/255" in err
    assert "sound=16 would do" in err
