import pytest
from scipy import stats

from rs_plugin import InputError
from rs_plugin.evaluation.logs import read_log

N, ALPHA, SIGMA = 100_000, 1e-3, 0.25
HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime"


def radius_of(votes: int) -> float:
    """Cohen et al.'s radius, from scipy's beta quantile."""
    return float(SIGMA * stats.norm.ppf(stats.beta.ppf(ALPHA, votes, N - votes + 1)))


def write(path, rows):
    lines = [HEADER, *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_votes_are_read_back_from_radii(tmp_path):
    given = [50_700, 60_000, 99_000, 99_990]
    rows = [(20 * i, 3, 3, f"{radius_of(votes) - 1e-9:.12f}", 1, "0:00:14") for i, votes in enumerate(given)]
    log = read_log(write(tmp_path / "log.tsv", rows), SIGMA, N, ALPHA)
    assert log["votes"].tolist() == given
    assert log["index"].tolist() == [0, 20, 40, 60]
    assert log["right"].all()
    assert not log["abstained"].any()


def test_radii_of_three_digits_give_the_votes_to_what_they_tell(tmp_path):
    given = [60_000, 80_000, 99_000]
    rows = [(i, 3, 3, f"{radius_of(votes):.3g}", 1, "0:00:14") for i, votes in enumerate(given)]
    votes = read_log(write(tmp_path / "log.tsv", rows), SIGMA, N, ALPHA)["votes"]
    # Half a unit of the third digit is at most 0.0005 here, 0.002 sigma: the normal density times that, in votes.
    assert (abs(votes - given) <= 0.4 * 0.002 * N + 1).all()


def test_abstentions_are_never_right_and_tell_no_votes(tmp_path):
    rows = [(0, 3, -1, "0.0", 0, "0:00:14"), (1, 3, 5, "0.2", 0, "0:00:14")]
    log = read_log(write(tmp_path / "log.tsv", rows), SIGMA, N, ALPHA)
    assert log["abstained"].tolist() == [True, False]
    assert not log["right"].any()
    assert log["votes"].iloc[0] == N // 2


@pytest.mark.parametrize("text", ["", "a\tb\n1\t2\n"])
def test_other_files_are_refused_with_their_name(tmp_path, text):
    path = tmp_path / "other.tsv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"other\.tsv"):
        read_log(path, SIGMA, N, ALPHA)


def test_missing_files_are_refused_with_their_name(tmp_path):
    with pytest.raises(InputError, match=r"none\.tsv"):
        read_log(tmp_path / "none.tsv", SIGMA, N, ALPHA)
