"""``benchmark``, its files and its command line."""

from __future__ import annotations

import inspect
import json
import math
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from torch import nn

from rs_plugin import Gaussian, Laplace, SmoothedClassifier, benchmark, evaluate, import_robustbench, load_model
from rs_plugin.errors import InputError, ParameterError, UnknownNameError
from rs_plugin.evaluation import VoteStore
from rs_plugin.robustbench.__main__ import main
from rs_plugin.robustbench.model_info import read_info
from tests.robustbench.conftest import colours, network

QUICK: dict[str, Any] = {"n": 400, "store": None}


def ours() -> SmoothedClassifier:
    return SmoothedClassifier(network(), Gaussian(0.25), 10)


def floored(share: float) -> str:
    """Percent with two decimals, rounded down: shares here are of few images, so that a slack of 1e-9 is none."""
    return f"{math.floor(1e4 * share + 1e-9) / 100:.2f}"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class TestCall:
    @pytest.mark.parametrize("stopping", ["fixed", "anytime"])
    @pytest.mark.parametrize(("threat", "eps"), [("L1", 0.3), ("L2", 0.25), ("Linf", 0.005)])
    def test_numbers_are_those_of_evaluate(self, stopping: str, threat: str, eps: float) -> None:
        data = colours(12)
        clean, certified = benchmark(ours(), None, data, threat, eps=eps, stopping=stopping, **QUICK)
        run = evaluate(ours(), data, threat, [eps], stopping, n=400, store=None)
        table = run.table()
        assert clean == table["smoothed_accuracy"][0] == table["certified_accuracy"][0]
        assert certified == table["certified_accuracy"][1]
        assert 0 < certified <= clean < 1  # one label is wrong

    def test_what_is_printed_and_logged(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        log = tmp_path / "log.txt"
        log.write_text("before\n")
        clean, certified = benchmark(ours(), 5, colours(12), "L2", eps=0.25, log_path=log, **QUICK)
        out = capsys.readouterr().out
        lines = out.splitlines()
        assert lines[:2] == [f"Clean accuracy: {floored(clean)}%", f"Certified accuracy: {floored(certified)}%"]
        assert max(map(len, lines)) <= 80
        text = " ".join(lines)
        assert "without noise: 80.00%." in text and "5 images of cifar10" in text
        assert "L2, eps = 0.25; gaussian(sigma=0.25), closed_form; alpha = 0.001 an image." in text
        assert log.read_text() == "before\n" + out

    def test_a_plain_network_with_its_noise(self) -> None:
        data = colours(6)
        plain = benchmark(network(), None, data, "L2", eps=0.25, noise="gaussian(sigma=0.25)", **QUICK)
        assert plain == benchmark(ours(), None, data, "L2", eps=0.25, noise=Gaussian(0.25), **QUICK)

    def test_the_prediction_gets_all_draws(self) -> None:
        """Where only ``eps`` is listed, radius 0 gets a thirtieth of them: the clean accuracy would be lower."""
        benchmark(ours(), 2, colours(12), "L2", eps=0.25, n=3000, store="votes.sqlite")
        with VoteStore("votes.sqlite") as votes:
            (config,) = votes.runs().values()
        assert (config["n"], config["prediction_draws"], config["radii"]) == (3000, 3000, [0.0, 0.25])

    def test_how_a_plain_network_votes(self) -> None:
        how: dict[str, Any] = {"noise": Gaussian(0.25), "precision": "bfloat16", "compiled": True}
        benchmark(network(), 2, colours(2), "L2", eps=0.25, n=100, store="votes.sqlite", alpha=0.01, **how)
        with VoteStore("votes.sqlite") as votes:
            (config,) = votes.runs().values()
        assert (config["autocast"], config["compiled"]) == ("bfloat16", True)

    def test_batch_size_is_the_size_of_a_pass(self) -> None:
        sizes = set()
        model = ours()
        model.base.register_forward_hook(lambda _, inputs, __: sizes.add(len(inputs[0])))
        benchmark(model, 3, colours(6), "L2", eps=0.25, batch_size=7, **QUICK)
        assert 7 in sizes and sizes - {7} <= {20}  # 20: the images of the fingerprint

    @pytest.mark.skipif(find_spec("robustbench") is None, reason="RobustBench is not installed")
    @pytest.mark.filterwarnings("ignore")
    def test_robustbenchs_own_arguments_are_taken_in_its_order(self) -> None:
        theirs = inspect.signature(import_robustbench("robustbench.eval").benchmark).parameters
        assert list(inspect.signature(benchmark).parameters)[: len(theirs)] == list(theirs)
        enums = import_robustbench("robustbench.model_zoo.enums")
        by_enum = benchmark(ours(), None, colours(4), enums.ThreatModel.L2, eps=0.25, **QUICK)
        assert by_enum == benchmark(ours(), None, colours(4), "L2", eps=0.25, **QUICK)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"eps": None}, ParameterError, "eps must be given"),
        ({"eps": -0.1}, ParameterError, "eps must be a radius of 0 or more, not -0.1"),
        ({"eps": float("nan")}, ParameterError, "eps must be a radius"),
        ({"threat_model": "corruptions"}, UnknownNameError, "corruptions"),
        ({"to_disk": True}, ParameterError, "to_disk=True needs model_name"),
        ({"to_disk": True, "model_name": "../up"}, ParameterError, "model name '../up'"),
        ({"corruptions_data_dir": "x"}, ParameterError, "corruptions_data_dir = 'x' means nothing"),
        ({"aa_state_path": "x"}, ParameterError, "aa_state_path = 'x' means nothing"),
        ({"precision": "bfloat16"}, ParameterError, "precision = 'bfloat16' was given, but the model has 'float32'"),
        ({"compiled": True}, ParameterError, "compiled = True was given, but the model has False"),
        ({"noise": Laplace(0.1)}, ParameterError, "the model is smoothed with gaussian"),
        ({"batch_size": 0}, ParameterError, "batch_size must be a positive whole number, not 0"),
        ({"n_examples": 13}, ParameterError, "n_examples"),
        ({"attack": ["fgsm"]}, UnknownNameError, "unknown attack 'fgsm'"),
        ({"attack": ["pgd"], "attack_n": 0}, ParameterError, "attack_n must be"),
        ({"radii": [-1.0]}, ParameterError, "radi"),
        ({"model": nn.Flatten()}, ParameterError, "a plain Flatten needs noise="),
        ({"model": [nn.Flatten()]}, ParameterError, "one model at a time"),
        ({"model": "net"}, ParameterError, "must be a torch.nn.Module, not str"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, dict) else "",
)
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"model": ours(), "dataset": colours(12), "threat_model": "L2", "eps": 0.25, **QUICK, **changes}
    with pytest.raises(error, match=words):
        benchmark(**arguments)
    assert not Path("model_info").exists()


class TestFiles:
    def info(self, **changes: Any) -> dict[str, Any]:
        arguments = {"dataset": colours(12), "threat_model": "L2", "eps": 0.25, **QUICK, **changes}
        self.numbers = benchmark(ours(), to_disk=True, model_name="Ours2026", **arguments)
        return read_info(Path("model_info/cifar10/L2/Ours2026.json"))

    def test_robustbenchs_fields_and_ours(self) -> None:
        info = self.info()
        clean, certified = self.numbers
        assert float(info["clean_acc"]) == pytest.approx(100 * clean, abs=0.01)
        assert float(info["certified_acc"]) == pytest.approx(100 * certified, abs=0.01)
        assert isinstance(info["clean_acc"], str) and info["eps"] == "0.25" and info["dataset"] == "cifar10"
        assert (info["n0"], info["n"], info["alpha"], info["stopping"]) == (100, 400, 0.001, "anytime")
        assert (info["noise"], info["method"]) == ("gaussian(sigma=0.25)", "closed_form")
        assert info["number_forward_passes"] > 100 and info["additional_data"] is False
        assert "autoattack_acc" not in info

    def test_fields_of_others_stay(self) -> None:
        self.info()
        path = Path("model_info/cifar10/L2/Ours2026.json")
        path.write_text(json.dumps({**read_info(path), "authors": "A, B", "autoattack_acc": "91.00", "note": [1]}))
        info = self.info(n_examples=4)
        assert (info["authors"], info["autoattack_acc"], info["note"], info["images"]) == ("A, B", "91.00", [1], 4)

    def test_curves_and_intervals(self) -> None:
        info = self.info(radii=[0.1, 0.4])
        assert [point[0] for point in info["certified_curve"]] == [0.0, 0.1, 0.25, 0.4]
        shares = [float(point[1]) for point in info["certified_curve"]]
        assert shares == sorted(shares, reverse=True) and info["certified_curve"][2][1] == info["certified_acc"]
        low, high = map(float, info["certified_interval"])
        held = round(12 * self.numbers[1])
        expected = stats.binomtest(held, 12).proportion_ci(0.95, "exact")
        assert (low, high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=0.01)
        assert low <= 100 * self.numbers[1] <= high
        # A fixed number of draws gives every image a radius of its own, so that the curve is known everywhere.
        fixed = self.info(stopping="fixed")["certified_curve"]
        assert len(fixed) > 50 and [0.25, info["certified_acc"]] in [[r, s] for r, s in fixed if r == 0.25]
        assert float(fixed[-1][1]) > 0

    def test_attacked_accuracy(self, capsys: pytest.CaptureFixture[str]) -> None:
        info = self.info(attack=["pgd"], attack_n=500, n_examples=6)
        assert float(info["certified_acc"]) <= float(info["attacked_acc"]) <= 100
        assert info["attack"].startswith("pgd on a surrogate of") and "n = 500 fresh draws" in info["attack"]
        assert "autoattack_acc" not in info
        printed = " ".join(capsys.readouterr().out.split())
        assert f"Attacked accuracy: {info['attacked_acc']}% at most is true" in printed
        # Figures of another evaluation would not be of the same radius or noise.
        assert not {"attacked_acc", "attack"} & self.info(n_examples=6).keys()

    def test_a_figure_of_autoattack_at_another_radius_is_not_taken_along(self) -> None:
        self.info()
        path = Path("model_info/cifar10/L2/Ours2026.json")
        path.write_text(json.dumps({**read_info(path), "autoattack_acc": "91.00", "eps": "1/4"}))
        assert self.info()["autoattack_acc"] == "91.00"  # the same radius
        before = path.read_bytes()
        with pytest.raises(InputError, match=r"autoattack_acc = '91.00' at eps = '0.25', not 0.3; remove that field"):
            self.info(eps=0.3)
        assert path.read_bytes() == before
        path.write_text(json.dumps({**read_info(path), "noise": "gaussian(sigma=0.5)"}))
        with pytest.raises(InputError, match=r"beside gaussian\(sigma=0.5\), not gaussian\(sigma=0.25\); remove"):
            self.info()

    @pytest.mark.parametrize("content", ["{", "[1]"])
    def test_a_file_of_another_kind_is_left_alone(self, content: str) -> None:
        path = Path("model_info/cifar10/L2/Ours2026.json")
        path.parent.mkdir(parents=True)
        path.write_text(content)
        with pytest.raises(InputError, match="mend or remove it"):
            self.info()
        assert path.read_text() == content

    @pytest.mark.skipif(find_spec("robustbench") is None, reason="RobustBench is not installed")
    @pytest.mark.filterwarnings("ignore")
    def test_robustbenchs_readers(self, capsys: pytest.CaptureFixture[str]) -> None:
        """As the documentation states them: which work on these files, and which want an AutoAttack figure."""
        self.info()
        path = Path("model_info/cifar10/L2/Ours2026.json")
        told = {"name": "Title", "authors": "A B, C D", "venue": "Venue 2026", "architecture": "WideResNet-1"}
        path.write_text(json.dumps({**read_info(path), **told}))
        utils = import_robustbench("robustbench.utils")
        entries, text = utils.get_leaderboard_bibtex("cifar10", "L2")
        assert len(entries) == 1 and "author\t= {A B and C D}" in text and "year\t= {2026}" in text
        with pytest.raises(KeyError, match="autoattack_acc"):
            utils.get_leaderboard_latex("cifar10", "L2")
        capsys.readouterr()
        utils.list_available_models("cifar10", "L2")
        assert "Ours2026" not in capsys.readouterr().out  # it lists models of its own dictionary only
        path.write_text(json.dumps({**read_info(path), "autoattack_acc": "61.20"}))
        row = utils.get_leaderboard_latex("cifar10", "L2")
        assert row.startswith("1 &\\citet{Ours2026} & 83.33 & ") and "& 61.20 & N & WRN-1 & Venue 2026 & N/A" in row


class TestCommandLine:
    WORDS = ("--dataset", "digits", "--threat_model", "L2", "--eps", "0.25", "--n_ex", "8", "--n", "300")

    def test_a_zoo_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--model_name", "digits_gaussian_0.25", *self.WORDS]) == 0
        out = capsys.readouterr().out
        model = load_model("digits_gaussian_0.25")
        clean, certified = benchmark(model, 8, "digits", "L2", eps=0.25, n=300, store=None)
        assert f"Clean accuracy: {floored(clean)}%" in out and f"Certified accuracy: {floored(certified)}%" in out
        assert not Path("model_info").exists() and Path("runs.sqlite").exists()

    @pytest.mark.parametrize(
        ("switch", "written"),
        [([], False), (["--to_disk"], True), (["--to_disk", "true"], True), (["--to_disk", "False"], False)],
    )
    def test_a_switch_means_what_it_says(self, switch: list[str], written: bool) -> None:
        assert main(["--model_name", "digits_gaussian_0.25", *self.WORDS, *switch]) == 0
        assert Path("model_info/digits/L2/digits_gaussian_0.25.json").exists() is written

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--model_name", "Standard"], "is no model of this package; for one of RobustBench's give --noise"),
            (["--model_name", "digits_gaussian_0.25", "--threat_model", "L7"], "unknown threat model 'L7'"),
            (["--model_name", "digits_gaussian_0.25", "--n", "0"], "n must be a positive whole number"),
        ],
    )
    def test_one_line_on_bad_input(self, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*self.WORDS, *words]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1

    def test_a_warning_is_one_line(self, capsys: pytest.CaptureFixture[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            assert main(["--model_name", "digits_gaussian_0.25", *self.WORDS, "--eps", "5"]) == 0
        err = capsys.readouterr().err
        assert err.startswith("rs_plugin.robustbench: warning: n = 300 draws") and err.count("\n") == 1

    def test_options_of_counting(self) -> None:
        words = ["--model_name", "digits_gaussian_0.25", *self.WORDS, "--compiled", "--workers", "1"]
        assert main(words) == 0
        with VoteStore("runs.sqlite") as votes:
            (config,) = votes.runs().values()
        assert config["compiled"] is True
        assert main([*words, "--workers", "0"]) == 2

    def test_messages_name_the_options(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["--model_name", "digits_gaussian_0.25", *self.WORDS, "--n_ex", "9999"]) == 2
        assert "--n_ex = 9999, but 'digits' has 360 images" in capsys.readouterr().err
        assert main(["--model_name", "digits_gaussian_0.25", *self.WORDS, "--seed", "-1"]) == 2
        assert "argument --seed: '-1' is below 0" in capsys.readouterr().err

    def test_another_noise_than_that_of_the_training(self, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["--model_name", "digits_gaussian_0.25", *self.WORDS, "--threat_model", "L1"]
        assert main([*words, "--noise", "laplace(b=0.2)"]) == 0
        assert "laplace(b=0.2)" in capsys.readouterr().out
