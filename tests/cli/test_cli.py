"""The command line: subcommands, exit codes, configuration files and interruptions."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import rs_plugin
from rs_plugin.cli import curve
from rs_plugin.cli.main import build_parser
from rs_plugin.cli.options import LAST_REQUIRED, one_warning, output_folder
from rs_plugin.errors import ParameterError, UncertifiableRadiusWarning
from rs_plugin.evaluation.suite import RADII
from rs_plugin.networks import CifarResNet
from rs_plugin.robustbench.__main__ import main as benchmark_main
from rs_plugin.training import TrainConfig
from rs_plugin.zoo import load_card
from rs_plugin.zoo.models import card_path
from tests.cli.conftest import Cli

SUBCOMMANDS = ("evaluate", "plan", "curve", "train", "list", "recertify", "fetch", "leaderboard")
ROOT = Path(rs_plugin.__file__).parents[1]
TINY = ["--model", "digits_gaussian_0.25", "--n-examples", "4", "--n0", "20", "--n", "100", "--alpha", "0.01"]
TINY += ["--radii", "0.1", "0.2"]

def refused(result: tuple[int, str, str], *words: str) -> None:
    """Check that a command ended with code 2 and one line with the words."""
    code, out, err = result
    assert (code, out) == (2, ""), (code, out, err)
    assert err.startswith("rs-plugin: error: ") and err.endswith("\n") and err.count("\n") == 1, err
    for word in words:
        assert word in err, (word, err)


def narrow(text: str) -> bool:
    return max(len(line) for line in text.splitlines()) <= 80


class TestHelp:
    @pytest.mark.parametrize("subcommand", SUBCOMMANDS)
    def test_every_subcommand_has_examples(self, cli: Cli, subcommand: str) -> None:
        code, out, err = cli(subcommand, "--help")
        assert (code, err) == (0, "")
        assert "examples:" in out and out.count(f"rs-plugin {subcommand}") >= 2
        assert "--json" in out and "--config" in out
        assert narrow(out)

    @pytest.mark.parametrize("subcommand", SUBCOMMANDS)
    def test_the_examples_parse(self, cli: Cli, subcommand: str) -> None:
        examples = cli(subcommand, "--help")[1].split("examples:")[1].replace("\\\n", "").splitlines()
        commands = [shlex.split(line.split(" > ")[0]) for line in examples if line.strip().startswith("rs-plugin ")]
        for words in commands:
            assert build_parser().parse_args(words[1:]).subcommand == subcommand
        assert len(commands) >= 2

    def test_the_example_of_an_adversary_is_the_recipe_of_the_bundled_model(self, cli: Cli) -> None:
        lines = cli("train", "--help")[1].replace("\\\n", "").splitlines()
        words = next(shlex.split(line)[1:] for line in lines if "--adversary 0.5" in line)
        args = vars(build_parser().parse_args(words))
        recipe = load_card(card_path("cifar10_jpeg_gaussian_0.25_adv")).recipe
        assert TrainConfig(**{name: args[name] for name in recipe if name in args}) == TrainConfig(**recipe)

    def test_states_the_default_radii(self, cli: Cli) -> None:
        assert RADII["L1"] == RADII["L2"] == (0.0, 0.15, 0.3, 0.45, 0.6)
        assert RADII["Linf"] == tuple(round(r / 10, 3) for r in RADII["L2"])
        text = " ".join(cli("evaluate", "--help")[1].split())
        assert f"up to a required probability of {LAST_REQUIRED}; without it 0.15 0.3 0.45 0.6, for Linf" in text
        assert "(default: L2 with --model, without it all three)" in text

    def test_nothing_at_all_gets_the_help(self, cli: Cli) -> None:
        code, out, err = cli()
        assert (code, out) == (2, "") and all(name in err for name in SUBCOMMANDS)

    def test_of_the_whole(self, cli: Cli) -> None:
        code, out, _ = cli("--help")
        assert code == 0 and all(name in out for name in SUBCOMMANDS)

    def test_version(self, cli: Cli) -> None:
        assert cli("--version")[1] == f"rs-plugin {rs_plugin.__version__}\n"


class TestEvaluate:
    def test_prints_a_table_and_writes_files(self, cli: Cli, tmp_path: Path) -> None:
        code, out, err = cli("evaluate", *TINY)
        assert (code, err) == (0, "")
        assert "n0 = 20, n = 100" in out and "alpha = 0.01" in out and "gaussian(sigma=0.25)" in out
        assert narrow(out) and "percentages are rounded down" in " ".join(out.split())
        assert out.splitlines()[-1] == "Written: results/evaluate.json, results/evaluate.png; votes: runs.sqlite"
        content = json.loads((tmp_path / "results" / "evaluate.json").read_text(), parse_constant=pytest.fail)
        assert content["format"] == "rs_plugin.runs" and len(content["runs"][0]["records"]) == 4
        assert (tmp_path / "results" / "evaluate.png").read_bytes().startswith(b"\x89PNG")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "runs.sqlite"]

    def test_json_is_all_that_is_printed(self, cli: Cli) -> None:
        code, out, err = cli("evaluate", *TINY, "--json")
        assert (code, err) == (0, "")
        assert [row["radius"] for row in json.loads(out)["runs"][0]["table"]] == [0.0, 0.1, 0.2]

    def test_the_comparison_of_one_threat_model(self, cli: Cli) -> None:
        code, out, _ = cli(
            "evaluate", "--threat-model", "L1", "--n-examples", "2", "--n", "50", "--alpha", "0.1", "--json"
        )
        runs = json.loads(out)["runs"]
        assert code == 0 and len(runs) == 2 and {run["threat_model"] for run in runs} == {"L1"}

    def test_warnings_go_to_the_errors(self, cli: Cli) -> None:
        code, out, err = cli("evaluate", *TINY, "--radii", "0.1", "9", "--json")
        assert code == 0 and json.loads(out)
        assert err.count("\n") == 1 and err.startswith("rs-plugin: warning: L2, gaussian(sigma=0.25): ")
        assert "radius 9" in err

    def test_anytime_and_sampled_certificates(self, cli: Cli) -> None:
        code, out, _ = cli("evaluate", *TINY, "--stopping", "anytime", "--method", "monte_carlo")
        assert code == 0 and "n = 100 at most" in out and "0.001 is the Monte-Carlo certificate's" in out
        assert narrow(out)

    def test_another_noise(self, cli: Cli) -> None:
        code, out, _ = cli("evaluate", *TINY, "--noise", "laplace(b=0.2)", "--threat-model", "L1")
        assert code == 0 and "laplace(b=0.2)" in out

    def test_no_progress_bar_in_a_pipe(self, tmp_path: Path) -> None:
        command = [sys.executable, "-m", "rs_plugin.cli.main", "evaluate", *TINY, "--json"]
        done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=180)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)


class TestOthers:
    def test_curve(self, cli: Cli) -> None:
        words = (
            "curve",
            "--noise",
            "gaussian(sigma=0.5)",
            "--threat-model",
            "L2",
            "--dim",
            "64",
            "--radii",
            "0",
            "0.5",
        )
        code, out, err = cli(*words)
        assert (code, err) == (0, "") and narrow(out)
        assert "0.84134475" in out  # 0.841344746 rounded up
        content = json.loads(cli(*words, "--json")[1])
        assert content["curve"][1]["required_probability"] == pytest.approx(0.8413447460685429)
        assert content["curve"][1]["least_draws"] == 40

    @pytest.mark.parametrize("method", ["auto", "monte_carlo"])
    def test_a_curve_chooses_radii_that_span_it(self, cli: Cli, method: str) -> None:
        code, out, _ = cli(
            "curve", "--noise", "laplace(b=0.2)", "--threat-model", "L1", "--dim", "64", "--method", method
        )
        assert code == 0 and len(out.splitlines()) >= 14 and narrow(out)

    def test_list(self, cli: Cli) -> None:
        code, out, _ = cli("list")
        assert code == 0 and "digits_gaussian_0.25" in out and "mixed_norm(k=..., sigma=...)" in out and narrow(out)
        assert "so that some networks do better there" in out
        content = json.loads(cli("list", "--json")[1])
        assert "digits" in content["datasets"] and len(content["models"]) >= 3

    def test_train(self, cli: Cli, tmp_path: Path) -> None:
        code, out, err = cli("train", "--epochs", "1", "--name", "small", "--output", "models", "--json")
        assert code == 0 and json.loads(out)["name"] == "small" and "epoch 1 of 1: loss" in err
        assert cli("evaluate", "--model", "models/small.json", *TINY[2:])[0] == 0

    def test_recertify(self, cli: Cli) -> None:
        cli("evaluate", *TINY)
        code, out, _ = cli("recertify")
        assert code == 0 and narrow(out)
        (run,) = json.loads(cli("recertify", "--json")[1])
        key, date, clock, *cells = out.splitlines()[2].split()
        assert key == run["key"][:12] and cells == ["4/4", "20", "100", "fixed", "0"]
        begun = datetime.strptime(f"{date} {clock}", "%Y-%m-%d %H:%M").timestamp()
        assert 0 <= run["begun"] - begun < 60
        assert out.splitlines()[3].strip() == f"digits, gaussian(sigma=0.25), network {run['model'][:8]}, float32"
        code, out, err = cli(
            "recertify", "--run", run["key"][:8], "--threat-model", "Linf", "--radii", "0.01", "--alpha", "0.05"
        )
        assert (code, err) == (0, "") and "Linf radius" in out and "alpha = 0.05" in out and narrow(out)
        content = json.loads(cli("recertify", "--run", run["key"], "--radii", "0.1", "--json")[1])
        assert content["runs"][0]["key"] == run["key"]


class TestModelsAndDataApart:
    def test_a_model_of_other_data_gets_a_warning(self, cli: Cli) -> None:
        words = ["evaluate", "--model", "cifar10_jpeg_gaussian_0.25", "--n-examples", "1", "--n0", "5", "--n", "20"]
        code, _, err = cli(*words, "--radii", "0.01", "--dataset", "digits")
        assert code == 0
        assert "'cifar10_jpeg_gaussian_0.25' was trained for 'cifar10_jpeg', not for 'digits'" in err
        assert "was trained for" not in cli("evaluate", *TINY)[2]

    def test_robustbenchs_way_to_write_a_name(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["--model_name", "digits_gaussian_0_25", "--dataset", "digits", "--threat_model", "L2", "--eps", "0.1"]
        words += ["--n_ex", "2", "--n", "200", "--store", str(tmp_path / "runs.sqlite")]
        assert benchmark_main(words) == 0
        assert benchmark_main(["--model_name", "digits_gausian_0.25", "--eps", "0.1"]) == 2
        err = capsys.readouterr().err
        assert "Did you mean 'digits_gaussian_0.25'?" in err and err.count("\n") == 1
        assert benchmark_main([]) == 2
        assert capsys.readouterr().err.count("\n") == 1


class TestLeaderboard:
    def test_from_a_benchmark_to_a_page(self, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["--model_name", "digits_gaussian_0.25", "--dataset", "digits", "--threat_model", "L2", "--eps", "0.2"]
        words += ["--n_ex", "4", "--n", "300", "--radii", "0.1", "--to_disk", "--attack", "pgd", "--attack_n", "100"]
        monkey = pytest.MonkeyPatch()
        with monkey.context() as patch:
            patch.chdir(tmp_path)
            assert benchmark_main(words) == 0
        code, out, err = cli("leaderboard")
        assert (code, err) == (0, "") and narrow(out) and out.startswith("1 certified model\n")
        page = (tmp_path / "leaderboard" / "L2.html").read_text(encoding="utf-8")
        assert "digits_gaussian_0.25" in page and "pgd on a surrogate of 64 draws" in page
        content = json.loads(cli("leaderboard", "--json", "--output", "site")[1])
        assert content["models"] == ["model_info/digits/L2/digits_gaussian_0.25.json"] and content["passed_over"] == []
        assert all((tmp_path / path).exists() for path in content["written"])

    def test_refusals_and_warnings(self, cli: Cli, tmp_path: Path) -> None:
        refused(cli("leaderboard"), "'model_info' is not a folder")
        folder = tmp_path / "model_info" / "cifar10" / "L2"
        folder.mkdir(parents=True)
        refused(cli("leaderboard"), "holds no file with a certified accuracy")
        info = {
            "certified_acc": "60", "attacked_acc": "50", "clean_acc": "70", "eps": "0.25", "noise": "gaussian(sigma=1)",
            "method": "closed_form", "stopping": "fixed", "n": 100, "alpha": 0.001, "images": 10,
        }  # fmt: skip
        (folder / "Odd.json").write_text(json.dumps(info))
        (folder / "Theirs.json").write_text("{}")
        code, out, err = cli("leaderboard")
        assert code == 0 and "1 without a certified accuracy, passed over" in out
        assert "Odd.json: attacked 50.00 % below certified 60.00 %; one of the two is wrong" in err


class TestCheckpoints:
    """A published network's file as --model."""

    @pytest.fixture
    def data(self, tmp_path: Path) -> str:
        """Return a folder of two classes with two images each, and put a checkpoint beside it."""
        torch.manual_seed(0)
        for label in ("cats", "dogs"):
            (tmp_path / "data" / label).mkdir(parents=True)
            for number in range(2):
                pixels = (255 * torch.rand(32, 32, 3)).byte().numpy()
                Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
        state = {f"1.{key}": value for key, value in CifarResNet(8, 2).state_dict().items()}
        torch.save({"arch": "cifar_resnet8", "state_dict": state}, tmp_path / "net.pth.tar")
        return str(tmp_path / "data")

    def test_evaluate(self, cli: Cli, data: str, tmp_path: Path) -> None:
        words = ["evaluate", "--model", "net.pth.tar", "--dataset", data, "--n0", "10", "--n", "40", "--json"]
        refused(cli(*words), "'net.pth.tar' needs a noise, as in 'gaussian(sigma=0.25)'")
        words += ["--radii", "0.01"]
        refused(cli(*words, "--noise", "gaussian(sigma=0.25)"), "does not say how its images are normalised")
        named = [*words, "--noise", "gaussian(sigma=0.25)", "--normalisation", "none"]
        code, out, _ = cli(*named)
        run = json.loads(out)["runs"][0]
        assert code == 0 and len(run["records"]) == 4
        entry = {
            "name": "mine", "address": "https://a", "filename": "net.pth.tar", "source": "me", "normalisation": "none",
            "noise": "gaussian(sigma=0.25)",
            "sha256": hashlib.sha256((tmp_path / "net.pth.tar").read_bytes()).hexdigest(),
        }  # fmt: skip
        content = {"format": "rs_plugin.zoo.published", "version": 1, "files": [entry]}
        (tmp_path / "mine.json").write_text(json.dumps(content))
        code, out, _ = cli(*words, "--manifest", "mine.json")
        assert code == 0 and json.loads(out)["runs"][0]["key"] == run["key"]

    def test_attacks_are_checked_before_any_work(self, cli: Cli, tmp_path: Path) -> None:
        refused(cli("evaluate", *TINY, "--attack", "fgsm"), "unknown attack 'fgsm'; known: pgd, autoattack")
        refused(cli("evaluate", *TINY, "--attack", "pgd", "--attack-n", "0"), "attack-n must be")
        refused(cli("evaluate", *TINY, "--attack", "pgd", "--bank", "0"), "bank must be")
        assert not (tmp_path / "runs.sqlite").exists()

    def test_options_of_checkpoints_alone(self, cli: Cli) -> None:
        refused(cli("evaluate", *TINY, "--normalisation", "mean"), "normalisation = 'mean' is for checkpoints")
        refused(cli("evaluate", "--normalisation", "mean"), "--normalisation 'mean' needs --model")
        refused(cli("evaluate", "--model", "none.pt", "--noise", "gaussian(sigma=1)"), "there is no file 'none.pt'")
        refused(cli("evaluate", "--model", "/nope.pt"), "there is no file '/nope.pt'; give the path")
        refused(cli("evaluate", "--compiled"), "error: --compiled needs --model")

    def test_the_list_of_published_files(self, cli: Cli) -> None:
        code, out, err = cli("fetch")
        assert (code, err) == (0, "") and narrow(out)
        assert "yang2020_cifar10_laplace_0.25" in out and "cohen2019_all" in out
        assert {entry["name"] for entry in json.loads(cli("fetch", "--json")[1])} == {
            line.split()[0] for line in out.splitlines()
        }
        refused(cli("fetch", "cohen"), "no published file 'cohen'")

    def test_fetch_without_a_network(self, cli: Cli, tmp_path: Path) -> None:
        entry = {"name": "mine", "address": "http://127.0.0.1:1/net.pt", "filename": "net.pt", "source": "me"}
        content = {"format": "rs_plugin.zoo.published", "version": 1, "files": [entry]}
        (tmp_path / "mine.json").write_text(json.dumps(content))
        refused(cli("fetch", "mine", "--manifest", "mine.json"), "cannot be reached", "or fetch it by a browser")
        (tmp_path / "net.pt").write_bytes(b"content")
        assert cli("fetch", "mine", "--manifest", "mine.json") == (0, "net.pt: me\n", "")


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    command = f"{shlex.quote(sys.executable)} -m rs_plugin.cli.main list | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("141\n", "")


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["evaluate", *TINY, "--noise", "gausian(sigma=1)"], "Did you mean 'gaussian'?"),
            (["evaluate", *TINY, "--noise", "gaussian(sigma=-1)"], "sigma"),
            (["evaluate", *TINY, "--noise", "gaussian(size=1)"], "gaussian(sigma=...)"),
            (["evaluate", *TINY, "--radii", "-0.5"], "not -0.5"),
            (["evaluate", *TINY, "--radii", "nan"], "not nan"),
            (["evaluate", *TINY, "--radii", "far"], "--radii"),
            (["evaluate", *TINY, "--radii"], "--radii"),
            (["evaluate", *TINY, "--n", "3"], "n = 3 draws cannot show"),
            (["evaluate", *TINY, "--radii", "0.1,0.2"], "separated by spaces, as in 0.1 0.2"),
            (["evaluate", *TINY, "--n", "many"], "--n"),
            (["evaluate", *TINY, "--n", "1e4"], "'1e4' is not a whole number; write 10000"),
            (["evaluate", *TINY, "--n", "1e999"], "'1e999' is not a whole number;"),
            (["evaluate", *TINY, "--n", "0"], "n must be a positive whole number, not 0"),
            (["evaluate", *TINY, "--alpha", "2"], "alpha must lie between 0 and 1, not 2.0"),
            (["evaluate", *TINY, "--model", "digits_gausian_0.25"], "Did you mean 'digits_gaussian_0.25'?"),
            (["evaluate", *TINY, "--model", "none.json"], "none.json"),
            (["evaluate", *TINY, "--threat-model", "l2"], "Did you mean 'L2'?"),
            (["evaluate", "--threat-model", "L7"], "unknown threat model 'L7'"),
            (["evaluate", *TINY, "--noise", "mixed_norm(k=64, sigma=1)"], "k"),
            (["evaluate", *TINY, "--dataset", "digitz"], "Did you mean 'digits'?"),
            (["evaluate", *TINY, "--subset", "every_20"], "every_20"),
            (["evaluate", *TINY, "--n-examples", "100000"], "--n-examples = 100000, but 'digits' has 360 images"),
            (["evaluate", *TINY, "--stopping", "soon"], "known: fixed, anytime"),
            (["evaluate", *TINY, "--method", "magic"], "unknown method 'magic'"),
            (["evaluate", *TINY, "--device", "abacus"], "device 'abacus' cannot be used here"),
            (["evaluate", *TINY, "--workers", "0"], "workers"),
            (["evaluate", *TINY, "--store", "none/runs.sqlite"], "its folder does not exist"),
            (["evaluate", *TINY, "--n-examples", "0"], "--n-examples must be a whole number of 1 or more, not 0"),
            (["evaluate", *TINY, "--n-examples", "many"], "argument --n-examples: 'many' is not a whole number"),
            (["evaluate", *TINY, "--seed", "-1"], "argument --seed: '-1' is below 0"),
            (["evaluate", *TINY, "--batch-size", "0"], "--batch-size must be a positive whole number, not 0"),
            (["evaluate", "--noise", "gaussian(sigma=1)"], "needs --model"),
            (["evaluate", "--radii", "0.1"], "needs --threat-model"),
            (["evaluate", *TINY, "--model", "x.safetensors"], "give the card (.json) beside it"),
            (["evaluate", "--sede=3"], "Did you mean '--seed'?"),
            (["evaluate", "--nonsense"], "unknown argument '--nonsense'; 'rs-plugin evaluate --help'"),
            (["curve", "--dim", "64"], "--noise"),
            (["curve", "--noise", "gaussian(sigma=1)", "--dim", "0"], "dim"),
            (["curve", "--noise", "gaussian(sigma=1)", "--alpha", "0"], "alpha"),
            (["curve", "--noise", "gaussian(sigma=1)", "--threat-model", "L1", "--method", "closed"], "unknown method"),
            (["curve", "--noise", "gaussian"], "gaussian(sigma=0.5)"),
            (["recertify"], "there is no vote store"),
            (["recertify", "--run", "abc"], "there is no vote store"),
            (["recertify", "--run", ""], "--run is empty"),
            (["recertify", "--radii", "0.1"], "--radii needs --run"),
            (["recertify", "--threat-model", "Linf"], "--threat-model needs --run"),
            (["train", "--epochs", "0"], "epochs"),
            (["train", "--adversary-steps", "5"], "--adversary-steps = 5 needs adversary"),
            (["train", "--seed", "-1"], "seed must be an integer of 0 or more, not -1"),
            (["nonsense"], "nonsense"),
            (["--config", "run.toml"], "SUBCOMMAND"),
        ],
        ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
    )
    def test_ends_in_one_line(self, cli: Cli, words: list[str], message: str) -> None:
        refused(cli(*words), message)

    @pytest.mark.parametrize("subcommand", ["evaluate", "train"])
    def test_output_that_cannot_be_written_is_found_first(self, cli: Cli, tmp_path: Path, subcommand: str) -> None:
        (tmp_path / "file").write_text("")
        extra = TINY if subcommand == "evaluate" else []
        for folder in ("file", "file/results"):
            refused(cli(subcommand, *extra, "--output", folder), f"--output '{folder}'", "choose another folder")
        assert not (tmp_path / "runs.sqlite").exists()

    def test_a_folder_that_takes_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(**where: object) -> None:
            raise PermissionError(13, "Permission denied")

        assert output_folder(str(tmp_path / "a" / "b")).is_dir()
        monkeypatch.setattr("tempfile.TemporaryFile", refuse)
        with pytest.raises(ParameterError, match=r"--output .*Permission denied"):
            output_folder(str(tmp_path))

    def test_a_store_of_another_kind(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "runs.sqlite").write_text("no database " * 99)
        refused(cli("evaluate", *TINY), "runs.sqlite", "use another path")
        refused(cli("recertify"), "runs.sqlite", "use another path")

    def test_keys_of_runs(self, cli: Cli) -> None:
        cli("evaluate", *TINY)
        cli("evaluate", *TINY, "--seed", "1")
        refused(cli("recertify", "--run", "xyz"), "no run of", "'xyz'")


class TestConfig:
    def config(self, tmp_path: Path, text: str) -> str:
        (tmp_path / "run.toml").write_text(text, encoding="utf-8")
        return "run.toml"

    def test_gives_options_and_the_line_wins(self, cli: Cli, tmp_path: Path) -> None:
        path = self.config(
            tmp_path,
            'model = "digits_gaussian_0.25"\nn_examples = 3\nn = 60\nalpha = 0.05\nradii = [0.1, 0.2]\njson = true\n'
            'threat-model = "Linf"\n',
        )
        run = json.loads(cli("evaluate", "--config", path, "--n", "80", "--radii", "0.05")[1])["runs"][0]
        assert (run["config"]["n"], run["config"]["images"], run["alpha"]) == (80, 3, 0.05)
        assert (run["threat_model"], [row["radius"] for row in run["table"]]) == ("Linf", [0.0, 0.05])
        again = json.loads(cli("evaluate", f"--config={path}")[1])["runs"][0]
        assert [row["radius"] for row in again["table"]] == [0.0, 0.1, 0.2]

    def test_gives_required_options(self, cli: Cli, tmp_path: Path) -> None:
        path = self.config(tmp_path, 'noise = "gaussian(sigma=0.5)"\ndim = 64\nradii = [0.5]\n')
        assert cli("curve", "--config", path)[0] == 0

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("n = ", "not valid TOML"),
            ("n = 1\nn = 2", "not valid TOML"),
            ("sede = 3", "Did you mean 'seed'?"),
            ("config = 'other.toml'", "'config'"),
            ("help = true", "'help'"),
            ("n = 'many'", "--n"),
            ("n = [100, 200]", "--n"),
            ("n = true", "n = True"),
            ("json = 'yes'", "a switch is true or false"),
            ("radii = []", "--radii"),
            ("radii = ['far']", "--radii"),
            ("[evaluate]\nn = 100", "has the table [evaluate]; options stand at the top level"),
        ],
    )
    def test_bad_content(self, cli: Cli, tmp_path: Path, text: str, message: str) -> None:
        path = self.config(tmp_path, text)
        words = [w for w in TINY if w != "--radii"][:-2]
        at = words.index("--n")
        del words[at : at + 2]
        refused(cli("evaluate", *words, "--config", path), message)

    def test_bytes_that_are_no_text(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "run.toml").write_bytes(b"\xff\xfe")
        refused(cli("evaluate", "--config", "run.toml"), "run.toml", "not valid TOML")

    def test_missing_files(self, cli: Cli, tmp_path: Path) -> None:
        refused(cli("evaluate", "--config", "none.toml"), "none.toml", "cannot read")
        refused(cli("evaluate", "--config", str(tmp_path)), "cannot read")
        refused(cli("evaluate", "--config"), "--config")

    def test_no_abbreviation_overlooks_it(self, cli: Cli, tmp_path: Path) -> None:
        path = self.config(tmp_path, "seed = 3")
        refused(cli("evaluate", *TINY, "--conf", path), "--conf")


class TestGatheredWarnings:
    """Many warnings of a run become one line, with numbers where the warnings carry them."""

    def told(self, *given: UncertifiableRadiusWarning) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            shown: list[str] = []
            warnings.showwarning = lambda message, *where: shown.append(str(message))  # type: ignore[assignment]
            with one_warning("Linf", "linf_exponential(k=8, sigma=0.056980288229818924)", 1000, 0.001) as tell:
                for warning in given:
                    warnings.warn(warning, stacklevel=1)
                assert shown == []
                tell()
                assert len(shown) == bool(given)
                warnings.warn("another", UserWarning, stacklevel=1)
        assert caught == [] and shown.pop() == "another"
        return shown

    HEAD = "Linf, linf_exponential(k=8, sigma=0.05698): "
    DRAWS = "n = 1000 draws at alpha = 0.001 cannot certify "

    def test_with_numbers(self) -> None:
        first = UncertifiableRadiusWarning("a", 0.03, 0.9952, 1426)
        second = UncertifiableRadiusWarning("b", 0.045, 0.99957, 16001)
        last = UncertifiableRadiusWarning("c", 9.0, 1.0 - 2.0**-40, None)
        assert self.told() == []
        assert self.told(first) == [f"{self.HEAD}{self.DRAWS}the radius 0.03 whatever the votes; n >= 1426 could"]
        (line,) = self.told(first, second)
        assert line == f"{self.HEAD}{self.DRAWS}the radii 0.03, 0.045 whatever the votes; n >= 1426, 16001 could"
        (line,) = self.told(last)
        assert line.endswith(f"{self.DRAWS}the radius 9 (1 - p* = 9.1e-13) whatever the votes; no practical n could")
        (line,) = self.told(UncertifiableRadiusWarning("d", 9.0, 1.0, None))
        assert line == f"{self.HEAD}{self.DRAWS}the radius 9 whatever the votes; no practical n could"
        assert self.told(second, last)[0].endswith("; n >= 16001 could, no practical n could for 9")

    def test_without_numbers(self) -> None:
        (line,) = self.told(UncertifiableRadiusWarning("first"), UncertifiableRadiusWarning("second", 0.1, 0.9, 3))
        assert line == f"{self.HEAD}first; second"


def test_probabilities_near_1_are_shown_as_1_minus_the_rest() -> None:
    shown = {0.841344746: "0.84134475", 1.0: "1.00000000", 0.99999998: "0.99999998", 1.0 - 2.0**-40: "1 - 9.09e-13"}
    assert {p: curve._rounded_up(p) for p in shown} == shown


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}


def stored_rows(path: Path) -> int:
    if not path.exists():
        return 0
    connection = sqlite3.connect(path, timeout=30)
    try:
        return int(connection.execute("SELECT count(*) FROM votes").fetchone()[0])
    except sqlite3.OperationalError:  # the table is not there yet
        return 0
    finally:
        connection.close()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_says_how_to_go_on_and_goes_on(cli: Cli, tmp_path: Path, number: Any, code: int) -> None:
    words = ["evaluate", "--model", "digits_gaussian_0.25", "--noise", "gaussian(sigma=0.25)", "--n-examples", "30"]
    words += ["--n", "30000", "--workers", "1"]
    store = tmp_path / "runs.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-m", "rs_plugin.cli.main", *words],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background job's children ignore it
    )  # fmt: skip
    try:
        end = time.monotonic() + 120
        while stored_rows(store) < 1 and process.poll() is None:
            assert time.monotonic() < end, "no votes were stored"
            time.sleep(0.02)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    kept = stored_rows(store)
    assert (process.returncode, out) == (code, ""), err
    assert 1 <= kept < 30
    lines = err.strip().splitlines()
    assert len(lines) == 1 and "to go on: rs-plugin evaluate" in lines[0]
    command = shlex.split(lines[0].partition("to go on: ")[2])
    assert command == ["rs-plugin", *words]
    connection = sqlite3.connect(store)
    before = connection.execute("SELECT image, counts FROM votes").fetchall()
    connection.close()
    status, out, _ = cli(*command[1:], "--json")
    records = {r["index"]: r for r in json.loads(out)["runs"][0]["records"]}
    assert status == 0 and len(records) == 30
    assert all(records[image]["votes"] == json.loads(counts) for image, counts in before)


@pytest.mark.parametrize("written", [None, False, True], ids=["no checkpoint", "none written", "a checkpoint"])
def test_an_interrupted_training_says_what_to_do(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: bool | None
) -> None:
    def interrupt(*arguments: object, **more: object) -> None:
        if written:
            (tmp_path / "train.pt").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("rs_plugin.training.train", interrupt)
    words = ["train", "--epochs", "3", *([] if written is None else ["--checkpoint", "train.pt"])]
    code, out, err = cli(*words)
    command = shlex.join(["rs-plugin", *words])
    advice = {
        None: f"to start again: {command}; add --checkpoint FILE to keep what is done",
        False: f"to start again: {command}",
        True: f"to go on: {command}",
    }
    assert (code, out, err) == (130, "", f"\nrs-plugin: interrupted; {advice[written]}\n")


def test_a_training_replaces_nothing_unless_told_to(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", "--epochs", "1", "--name", "small"]
    (tmp_path / "small.safetensors").write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr("rs_plugin.training.train", lambda *a, **k: pytest.fail("trained"))
        refused(cli(*words), "small.safetensors exists already", "--overwrite")
        (tmp_path / "small.safetensors").rename(tmp_path / "small.json")
        refused(cli(*words), "small.json exists already", "--overwrite")
    assert cli(*words, "--overwrite")[0] == 0
    assert json.loads((tmp_path / "small.json").read_text())["name"] == "small"


def test_the_list_rounds_down(cli: Cli) -> None:
    card = next(c for c in json.loads(cli("list", "--json")[1])["models"] if c["name"] == "digits_gaussian_0.25")
    line = next(line for line in cli("list")[1].splitlines() if "digits_gaussian_0.25" in line)
    for share, shown in zip((card["accuracy_clean"], card["accuracy_noise"]), line.split()[1:3], strict=True):
        assert 100 * share - 0.1 < float(shown) <= 100 * share


def test_the_comparison_and_the_model_alone_share_their_votes(cli: Cli, tmp_path: Path) -> None:
    few = ["--n-examples", "2", "--n", "50", "--alpha", "0.1"]
    cli("evaluate", *few)
    rows = stored_rows(tmp_path / "runs.sqlite")
    cli("evaluate", "--model", "digits_gaussian_0.25", *few)
    cli("evaluate", "--model", "digits_laplace_0.25", "--threat-model", "L1", *few)
    assert rows == stored_rows(tmp_path / "runs.sqlite") > 0
