"""Votes against a plain loop; independence of blocks; what a network may not answer."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_plugin.distributions import Gaussian, MixedNorm, SmoothingDistribution
from rs_plugin.errors import ModelError
from rs_plugin.streams import CHUNK, Stream, chunk_seed
from rs_plugin.voting import DrawRange, VoteCounter, block_rows, single_threaded
from tests.evaluation.toys import SHAPE, Rows

IMAGE = torch.tensor([0.2, 0.9, 0.4, 0.7]).view(SHAPE)
DIM = 4


def counter(
    base: nn.Module, rows: int = 40, noise: SmoothingDistribution | None = None, classes: int = 3
) -> VoteCounter:
    return VoteCounter(base.eval(), noise or Gaussian(0.5), classes, SHAPE, torch.device("cpu"), rows)


def plain_votes(
    base: nn.Module, noise: SmoothingDistribution, image: Tensor, index: int, seed: int, part: DrawRange, classes: int
) -> np.ndarray:
    """Count one draw at a time, from whole chunks."""
    votes = np.zeros(classes, dtype=np.int64)
    for draw in range(part.start, part.stop):
        generator = torch.Generator().manual_seed(chunk_seed(seed, index, part.stream, draw // CHUNK))
        chunk = torch.empty(CHUNK, DIM)
        noise.fill(chunk, generator)
        with torch.no_grad():
            scores = base((image.flatten() + chunk[draw % CHUNK]).view(1, *SHAPE))
        votes[int(scores.argmax())] += 1
    return votes


@pytest.mark.parametrize("noise", [Gaussian(0.5), MixedNorm(2, 0.5)], ids=str)
@pytest.mark.parametrize("stop", [1, CHUNK - 1, CHUNK, CHUNK + 1, 200])
def test_votes_are_those_of_a_plain_loop(noise: SmoothingDistribution, stop: int) -> None:
    base = Rows()
    part = DrawRange(Stream.ESTIMATION, 0, stop)
    (votes,) = counter(base, noise=noise).count(IMAGE, 3, 11, [part])
    assert votes.dtype == np.int64
    assert votes.tolist() == plain_votes(base, noise, IMAGE, 3, 11, part, 3).tolist()


@pytest.mark.parametrize("rows", [1, 7, 40, 64, 300])
def test_votes_do_not_depend_on_the_block(rows: int) -> None:
    ranges = [DrawRange(Stream.SELECTION, 0, 70), DrawRange(Stream.ESTIMATION, 0, 250)]
    expected = counter(Rows(), 128).count(IMAGE, 0, 0, ranges)
    got = counter(Rows(), rows).count(IMAGE, 0, 0, ranges)
    assert [v.tolist() for v in got] == [v.tolist() for v in expected]


def test_ranges_are_counted_apart_and_continue_one_another() -> None:
    one = counter(Rows())
    whole, selection = one.count(
        IMAGE, 1, 2, [DrawRange(Stream.ESTIMATION, 0, 300), DrawRange(Stream.SELECTION, 0, 100)]
    )
    (first,) = one.count(IMAGE, 1, 2, [DrawRange(Stream.ESTIMATION, 0, 128)])
    (second,) = one.count(IMAGE, 1, 2, [DrawRange(Stream.ESTIMATION, 128, 300)])
    assert (first + second).tolist() == whole.tolist()
    assert (whole.sum(), selection.sum()) == (300, 100)
    assert selection.tolist() == one.count(IMAGE, 1, 2, [DrawRange(Stream.SELECTION, 0, 100)])[0].tolist()


def test_votes_do_not_depend_on_what_was_counted_before() -> None:
    used, part = counter(Rows()), [DrawRange(Stream.ESTIMATION, 0, 100)]
    used.count(1.0 - IMAGE, 8, 3, part)
    used.count_with_base(IMAGE, 0, 0, part)
    assert used.count(IMAGE, 0, 0, part)[0].tolist() == counter(Rows()).count(IMAGE, 0, 0, part)[0].tolist()


def test_images_seeds_and_streams_have_draws_of_their_own() -> None:
    part, other = [DrawRange(Stream.ESTIMATION, 0, 1000)], [DrawRange(Stream.SELECTION, 0, 1000)]
    one = counter(Rows())
    votes = [
        one.count(IMAGE, *at, ranges)[0].tolist() for at, ranges in [((0, 0), part), ((1, 0), part), ((0, 1), part)]
    ]
    votes.append(one.count(IMAGE, 0, 0, other)[0].tolist())
    assert len({tuple(v) for v in votes}) == 4


def test_short_blocks_are_padded_to_one_shape() -> None:
    shapes: list[tuple[int, ...]] = []

    class Spy(Rows):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(tuple(x.shape))
            return super().forward(x)

    one = counter(Spy(), rows=48)
    one.count(IMAGE, 0, 0, [DrawRange(Stream.SELECTION, 0, 10), DrawRange(Stream.ESTIMATION, 0, 100)])
    assert set(shapes) == {(48, *SHAPE)}
    assert len(shapes) == 3
    one.count_with_base(IMAGE, 0, 0, [DrawRange(Stream.SELECTION, 0, 10), DrawRange(Stream.ESTIMATION, 0, 100)])
    assert len(shapes) == 6  # the image itself found room in the third block


@pytest.mark.parametrize("draws", [0, 1, 64, 127, 128, 129])
def test_the_base_answers_without_noise(draws: int) -> None:
    base, part = Rows(), [DrawRange(Stream.ESTIMATION, 0, draws)]
    with torch.no_grad():
        expected = int(base(IMAGE[None]).argmax())
    answer, counts = counter(base, 64).count_with_base(IMAGE, 4, 5, part)
    assert answer == expected
    assert [c.tolist() for c in counts] == [c.tolist() for c in counter(base, 64).count(IMAGE, 4, 5, part)]
    assert counter(base).count_with_base(IMAGE, 0, 0, []) == (expected, [])


def test_threads_of_one_counter_do_not_disturb_one_another() -> None:
    one, part = counter(Rows()), [DrawRange(Stream.ESTIMATION, 0, 640)]
    expected = [one.count(IMAGE, i, 0, part)[0].tolist() for i in range(8)]
    got: dict[int, list[int]] = {}

    def work(start: int) -> None:
        for i in range(start, 8, 2):
            got[i] = one.count(IMAGE, i, 0, part)[0].tolist()

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [got[i] for i in range(8)] == expected


@pytest.mark.parametrize(("draws", "dim"), [(1, 64), (1100, 64), (10_100, 64), (100_100, 3072), (100, 150_528), (5, 4)])
def test_blocks_are_evenly_shared_and_fit(draws: int, dim: int) -> None:
    rows = block_rows(draws, dim)
    most = max(CHUNK, min(256, (1 << 20) // dim))
    assert 1 <= rows <= most
    assert -(-draws // rows) == -(-draws // most)  # no more passes than the largest block needs


class Answers(nn.Module):
    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, x: Tensor) -> object:
        return self.answer(x) if callable(self.answer) else self.answer


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: torch.full((len(x), 3), float("nan")), "NaN"),
        (lambda x: torch.full((len(x), 3), math.inf), "infinite scores"),
        (lambda x: torch.full((len(x), 3), -math.inf), "infinite scores"),
        (lambda x: x @ torch.zeros(7, 3), "failed on float32 images of shape"),
        (lambda x: torch.zeros(len(x), 5), "pass num_classes=5"),
        (lambda x: torch.zeros(len(x)), r"shape \(40,\) for 40 images; it must be \(40, 3\)"),
        (lambda x: torch.zeros(len(x), 3, 1), "shape"),
        (lambda x: torch.zeros(1, 3), r"shape \(1, 3\) for 40 images"),
        (lambda x: (torch.zeros(len(x), 3), None), "returned tuple"),
        (None, "returned NoneType"),
    ],
    ids=["nan", "inf", "minus inf", "fails", "classes", "1d", "3d", "one row", "tuple", "none"],
)
def test_answers_that_are_no_scores_are_refused(answer: object, message: str) -> None:
    one = counter(Answers(answer))
    with pytest.raises(ModelError, match=message) as raised:
        one.count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 10)])
    assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match=message):
        one.count_with_base(IMAGE, 0, 0, [])


def test_one_nan_among_many_rows_is_found() -> None:
    def scores(x: Tensor) -> Tensor:
        result = torch.zeros(len(x), 3)
        result[17, 2] = float("nan")
        return result

    with pytest.raises(ModelError, match="NaN"):
        counter(Answers(scores)).count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 40)])


def test_classes_ruled_out_by_minus_infinity_are_fine() -> None:
    one = counter(Answers(lambda x: torch.tensor([-math.inf, 0.5, -math.inf]).expand(len(x), 3)))
    assert one.count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 40)])[0].tolist() == [0, 40, 0]


def test_single_threaded_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with single_threaded():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), single_threaded():
            _ = 1 / 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
