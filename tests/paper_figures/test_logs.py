import csv
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from paper_figures import logs, printed
from paper_figures.accuracy import BEST, CHOSEN
from rs_plugin.estimation import exceeds, least_trials_anytime

ROOT = Path(os.environ.get("RS_DATA", "nowhere")) / "certification_logs"
needs_logs = pytest.mark.skipif(not ROOT.is_dir(), reason="RS_DATA is not set, or has no certification_logs/")


def counted(folder: Path, radii, step: int) -> list[float]:
    """Best over the files at each radius, in percent, by nothing but the columns of the files."""
    best = [0.0] * len(radii)
    for path in folder.glob("*.tsv"):
        with path.open() as file:
            rows = list(csv.DictReader(file, delimiter="\t"))[::step]
        for i, radius in enumerate(radii):
            right = sum(row["correct"] == "1" and float(row["radius"]) >= radius for row in rows)
            best[i] = max(best[i], 100.0 * right / len(rows))
    return best


@needs_logs
def test_the_committed_table_is_what_the_logs_give():
    fresh, known = logs.compute(ROOT), logs.load()
    keys = ["table", "dataset", "radius", "stopping", "protocol"]
    columns = ["certified", "low", "high"]
    pd.testing.assert_frame_equal(fresh[[*keys, "chosen"]], known[[*keys, "chosen"]], rtol=1e-5)  # 6 digits are kept
    pd.testing.assert_frame_equal(fresh[columns], known[columns], rtol=1e-5, check_dtype=False)


@needs_logs
@pytest.mark.parametrize("entry", logs.LOGS)
def test_what_is_logged_is_counted(entry):
    part = printed.of(entry.table, entry.dataset)
    size = np.sqrt(3072) if part.threat == "Linf" else 1.0
    known = logs.load()
    row = known[
        (known["table"] == entry.table) & (known["dataset"] == entry.dataset)
        & (known["stopping"] == logs.LOGGED) & (known["protocol"] == BEST)
    ]  # fmt: skip
    found = counted(ROOT / entry.folder, np.array(part.radii) * size, entry.step)
    assert row["certified"].tolist() == pytest.approx(found)


def test_stopping_early_costs_a_little_and_what_is_out_of_reach_is_lost():
    wide = logs.load().pivot(index=["table", "dataset", "radius"], columns=["stopping", "protocol"], values="certified")
    loss = (wide[logs.LOGGED, BEST] - wide[logs.ANYTIME, BEST]).reset_index(name="loss")
    largest = loss["radius"] * np.where(loss["table"] == 3, np.sqrt(3072), 1.0)  # σ = 1 is the largest scale
    out_of_reach = [least_trials_anytime(float(stats.norm.cdf(r)), 1e-3, test=exceeds) > logs.LIMIT for r in largest]
    assert loss.loc[out_of_reach, "radius"].tolist() == [3.5]
    assert wide.loc[(2, printed.IMAGENET, 3.5), logs.ANYTIME].tolist() == [0.0, 0.0]
    rest = loss.loc[~np.array(out_of_reach), "loss"]
    assert rest.min() >= -0.2  # the mean of ten runs on 500 images: a quarter of an image and its luck
    assert rest.max() <= 3.0  # points: a quarter of the draws, bounds of a sequence, and a log that is out of reach
    for stopping in (logs.LOGGED, logs.ANYTIME):
        assert (wide[stopping, BEST] >= wide[stopping, CHOSEN]).all()


def test_a_log_that_goes_on_for_longer_shows_more():
    """36 053 unanimous draws are the least that show 4/255 with σ = 0.25: none in 25 000, some in 50 000."""
    ratio = np.array([np.sqrt(3072) * 4 / 255 / 0.25])
    p, limits = np.full(50, 1.0 - 1e-7), (logs.LIMIT, logs.MORE[3, 0.25])
    shown = [logs._shown(p, ratio, limit, np.random.default_rng(0)).mean() for limit in limits]
    assert shown[0] == 0.0
    assert shown[1] > 0.9  # e^-0.0036 of the runs meet no failure


def test_logs_of_known_probabilities_certify_what_they_should(tmp_path):
    """Two made-up models: one certifies every image at 0.5, the other none; the anytime run finds the same."""
    for entry in logs.LOGS:
        folder = tmp_path / entry.folder
        folder.mkdir()
        strong, weak = 0.9997, 0.55
        for sigma, p in (("0.25", weak), ("1.00", strong)):
            lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
            radius = float(sigma) * stats.norm.ppf(stats.beta.ppf(1e-3, p * 100_000, (1 - p) * 100_000 + 1))
            lines += [f"{i}\t3\t3\t{radius:.6f}\t1\t0:00:01" for i in range(60)]
            (folder / f"noise_{sigma}.tsv").write_text("\n".join(lines) + "\n")
    frame = logs.compute(tmp_path)
    # The strong one, 0.9997, is far above what 2.5 requires, 0.9938, above what 3 does, 0.99865, which 25 000 draws
    # may not show, and below what 3.5 does, 0.99977. Every 20th of 60 images are three.
    reached, beyond = frame["radius"] <= 2.5, frame["radius"] >= 3.5
    assert (frame.loc[reached, "certified"] == 100.0).all()
    assert (frame.loc[beyond, "certified"] == 0.0).all()
    assert (frame.loc[(frame["radius"] == 3.0) & (frame["stopping"] == logs.LOGGED), "certified"] == 100.0).all()
    assert set(frame["images"]) == {3, 60}
    assert set(frame.loc[reached, "chosen"]) == {"noise_1.00"}


def test_logs_stand_beside_what_is_printed():
    frame = logs.beside_print(BEST)
    assert list(frame.groupby(["table", "dataset"], sort=False).size()) == [9, 7, 6]
    first = frame.iloc[0]
    assert (first["table"], first["shown"], first["baseline"], first["family"]) == (2, "0.25", 60, 61)
    # The figures of the logs by their own publishers' count: 60.0 42.8 32.0 23.2 17.4 14.0 11.6 10.2 7.2.
    assert frame.loc[frame["table"].eq(2) & frame["dataset"].eq(printed.CIFAR10), "logged"].tolist() == pytest.approx(
        [60.0, 42.8, 32.0, 23.2, 17.4, 14.0, 11.6, 10.2, 7.2]
    )
