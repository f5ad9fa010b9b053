"""What is screened, on which images, and that an interruption loses nothing."""

import os

import numpy as np
import pandas as pd
import pytest

import rs_plugin as rs
from paper_figures import profiles, screen
from paper_figures.scales import rms


def test_pairs_are_single_and_of_the_size_of_the_training():
    pairs = list(screen.pairs())
    assert len({(pair.model, str(pair.noise)) for pair in pairs}) == len(pairs)
    for pair in pairs:
        card = profiles.load_card(profiles.card_path(pair.model))
        trained = rms(rs.parse_noise(card.noise), screen.DIM)
        assert rms(pair.noise, screen.DIM) == pytest.approx(pair.factor * trained, abs=6e-5)  # four digits
    assert {pair.k for pair in pairs if pair.factor != 1.0} == {0}
    plain = {(pair.model, str(pair.noise).split("(")[0], pair.factor) for pair in pairs if pair.k == 0}
    baselines = {"l1_exponential": "laplace", "l2_exponential": "gaussian", "mixed_norm": "gaussian"}
    for pair in pairs:  # whatever k > 0 is compared with is there
        assert (pair.model, baselines[pair.family], pair.factor) in plain


@pytest.mark.skipif("RS_DATA" not in os.environ, reason="RS_DATA is not set: the folder that holds cifar10/")
def test_no_image_of_the_tables_is_screened():
    held_out = screen.held_out()
    assert held_out.indices.tolist() == list(range(10, 10_000, 40))
    registered, subset = profiles.cpu().sets["CIFAR-10"]
    assert not set(held_out.indices.tolist()) & set(rs.load_dataset(registered, subset).indices.tolist())


def test_only_what_is_missing_is_counted(tmp_path, monkeypatch):
    wanted = list(screen.pairs())[:3]
    asked = []

    def count(pair, data):
        asked.append(pair)
        rows = {"model": pair.model, "noise": str(pair.noise), "index": [10, 50], "label": 1, "selected": [1, 2]}
        return pd.DataFrame(rows)

    monkeypatch.setattr(screen, "pairs", lambda: iter(wanted))
    monkeypatch.setattr(screen, "count", count)
    monkeypatch.setattr(screen, "held_out", lambda: None)
    monkeypatch.setattr(screen, "TABLE", tmp_path / "data" / "screen.csv.gz")
    monkeypatch.setattr(screen, "STORE", tmp_path / "cache" / "screen.sqlite")
    with pytest.raises(rs.InputError, match=r"no screening at .*python -m paper_figures\.screen"):
        screen.load()
    screen.main()
    assert asked == wanted
    whole, content = screen.load(), screen.TABLE.read_bytes()
    assert np.array_equal(whole["index"], [10, 50] * 3)
    asked.clear()
    screen.main()
    assert asked == []
    kept = whole[whole["noise"] != str(wanted[2].noise)]
    kept.to_csv(screen.TABLE, index=False)
    screen.main()
    assert asked == wanted[2:]
    assert screen.TABLE.read_bytes() == content


def test_the_committed_table_is_of_the_pairs():
    frame = screen.load()
    groups = {key: len(group) for key, group in frame.groupby(["model", "noise"], sort=False)}
    assert list(groups) == [(pair.model, str(pair.noise)) for pair in screen.pairs()]
    assert set(groups.values()) == {250}
    assert frame["votes"].between(0, screen.N).all()
    right = frame[frame["selected"] == frame["label"]]
    assert (right["votes"] == right["label_votes"]).all()
