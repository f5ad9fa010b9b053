"""Votes against a plain loop; independence of blocks; what a network may not answer."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_plugin.distributions import Gaussian, MixedNorm, SmoothingDistribution
from rs_plugin.errors import ModelError, ParameterError
from rs_plugin.streams import CHUNK, Stream, chunk_seed
from rs_plugin.voting import Answer, Ask, DrawRange, Poll, VoteCounter, block_rows, single_threaded
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
    used.ask([Ask(IMAGE, 0, 0, part, clean=True)])
    assert used.count(IMAGE, 0, 0, part)[0].tolist() == counter(Rows()).count(IMAGE, 0, 0, part)[0].tolist()


def test_images_seeds_and_streams_have_draws_of_their_own() -> None:
    part, other = [DrawRange(Stream.ESTIMATION, 0, 1000)], [DrawRange(Stream.SELECTION, 0, 1000)]
    one = counter(Rows())
    votes = [
        one.count(IMAGE, *at, ranges)[0].tolist() for at, ranges in [((0, 0), part), ((1, 0), part), ((0, 1), part)]
    ]
    votes.append(one.count(IMAGE, 0, 0, other)[0].tolist())
    assert len({tuple(v) for v in votes}) == 4


def test_all_passes_have_one_shape_and_none_is_superfluous() -> None:
    shapes: list[tuple[int, ...]] = []

    class Spy(Rows):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(tuple(x.shape))
            return super().forward(x)

    one = counter(Spy(), rows=64)
    one.manner(IMAGE)
    shapes.clear()
    ranges = [DrawRange(Stream.SELECTION, 0, 10), DrawRange(Stream.ESTIMATION, 0, 100)]
    one.count(IMAGE, 0, 0, ranges)
    assert shapes == [(64, *SHAPE)] * 3  # a chunk, and two
    one.ask([Ask(IMAGE, 0, 0, ranges, clean=True)])
    assert len(shapes) == 6  # the image itself found room beside the ten draws
    one.ask([Ask(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 64)], clean=True)])
    assert len(shapes) == 8  # and none beside 64
    wide = counter(Spy(), rows=256)
    wide.manner(IMAGE)
    shapes.clear()
    wide.ask([Ask(IMAGE, i, 0, [DrawRange(Stream.ESTIMATION, 0, 128)]) for i in range(6)])
    assert shapes == [(256, *SHAPE)] * 3  # two images a pass


@pytest.mark.parametrize("draws", [0, 1, 64, 127, 128, 129])
def test_the_base_answers_without_noise(draws: int) -> None:
    base, part = Rows(), [DrawRange(Stream.ESTIMATION, 0, draws)]
    with torch.no_grad():
        expected = int(base(IMAGE[None]).argmax())
    (answer,) = counter(base, 64).ask([Ask(IMAGE, 4, 5, part, clean=True)])
    assert answer.base == expected and answer.seconds > 0
    assert answer.counts[0].sum() == draws
    if draws:
        assert answer.counts[0].tolist() == counter(base, 64).count(IMAGE, 4, 5, part)[0].tolist()
        assert counter(base).ask([Ask(IMAGE, 4, 5, part)])[0].base is None


def until(image: Tensor, index: int, totals: list[int]) -> Poll[tuple[int, list[int]]]:
    """Ask for more and more draws of an image, and return its index and votes."""
    votes, seen = np.zeros(3, dtype=np.int64), 0
    for total in totals:
        answer: Answer = yield Ask(image, index, 0, [DrawRange(Stream.ESTIMATION, seen, total)])
        votes, seen = votes + answer.counts[0], total
    return index, votes.tolist()


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("rows", [7, 64, 100, 256])
@pytest.mark.parametrize("mixed", [True, False])
def test_polls_get_the_votes_of_their_image_however_they_are_mixed(threads: int, rows: int, mixed: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    images = torch.rand((9, *SHAPE), generator=generator)
    plans = [[64 * (i % 4 + 1) * k for k in range(1, i + 2)] for i in range(9)]
    manner = counter(Rows(), rows).manner(IMAGE)._replace(mixed=mixed)
    one = VoteCounter(Rows().eval(), Gaussian(0.5), 3, SHAPE, torch.device("cpu"), rows, manner=manner)
    found = dict(one.run((until(image, i, plans[i]) for i, image in enumerate(images)), threads))
    expected = {
        i: counter(Rows()).count(image, i, 0, [DrawRange(Stream.ESTIMATION, 0, plans[i][-1])])[0].tolist()
        for i, image in enumerate(images)
    }
    assert found == expected
    assert torch.get_num_threads() == 1


def test_polls_are_opened_only_as_there_is_room() -> None:
    opened: list[int] = []

    def polls() -> Iterator[Poll[tuple[int, list[int]]]]:
        for i in range(100):
            opened.append(i)
            yield until(IMAGE, i, [64])

    one = counter(Rows(), 64)
    one.manner(IMAGE)
    results = one.run(polls())
    next(results)
    assert len(opened) <= 2 * 16  # a group is 16 chunks where images are small


def test_an_error_of_a_poll_is_raised_and_ends_the_threads() -> None:
    def failing() -> Poll[int]:
        yield Ask(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 64)])
        raise ZeroDivisionError

    one = counter(Rows(), 64)
    one.manner(IMAGE)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(one.run([failing(), *(until(IMAGE, i, [6400]) for i in range(20))], 2))  # type: ignore[list-item]
    assert threading.active_count() == before


def test_draws_are_never_counted_twice() -> None:
    one = counter(Rows())
    with pytest.raises(ParameterError, match="draws from 100 on were asked for; begin at a multiple of 64"):
        one.count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 100, 200)])
    with pytest.raises(ParameterError, match="asked for no draws of image 0"):
        one.count(IMAGE, 0, 0, [])


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


@pytest.mark.parametrize(
    ("dim", "draws", "rows"),
    [(64, 10_000, 256), (64, 100, 128), (64, 1, 64), (3072, 10_000, 256), (8192, 10_000, 128), (150_528, 10_000, 64)],
)
def test_blocks_are_whole_chunks_and_fit(dim: int, draws: int, rows: int) -> None:
    assert block_rows(dim, draws) == rows
    assert rows * dim <= 1 << 20 or rows == CHUNK


class TestManner:
    """How a network is shown its images is found by showing it some."""

    def found(self, base: nn.Module, shape: tuple[int, ...] = (3, 8, 8)) -> tuple[str, bool]:
        one = VoteCounter(base.eval(), Gaussian(0.5), 3, shape, torch.device("cpu"), 64)
        return tuple(one.manner(torch.rand(shape, generator=torch.Generator().manual_seed(0))))  # type: ignore[return-value]

    def test_convolutions_get_channels_last(self) -> None:
        base = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
        assert self.found(base)[0] == "channels_last"
        assert self.found(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), (1, 8, 8))[0] == "contiguous"

    def test_networks_that_cannot_read_it_get_contiguous_images(self) -> None:
        class Views(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return ((x.view(len(x), -1) - 0.5).unsqueeze(1) * self.weight).sum(-1)

        class ReadsMemory(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(torch.as_strided(x, (len(x), 192), (192, 1)))

        for base in (Views(3, 192), ReadsMemory(3, 192)):
            assert self.found(base) == ("contiguous", True)
        assert self.found(Rows(3, 192)) == ("channels_last", True)

    def test_rounding_by_the_place_in_a_pass_keeps_images_apart(self) -> None:
        class Unsteady(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) * (1.0 + 1e-6 * torch.arange(len(x)).view(-1, 1))

        assert self.found(Unsteady(3, 192)) == ("channels_last", False)

    def test_networks_that_write_into_their_input(self) -> None:
        class Writes(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x.mul_(0.5))

        assert self.found(Writes(3, 192)) == ("channels_last", True)
        one, two = (
            VoteCounter(base.eval(), Gaussian(0.5), 3, SHAPE, torch.device("cpu"), 64)
            for base in (Writes(), Rows())
        )
        part = [DrawRange(Stream.ESTIMATION, 0, 200)]
        assert one.count(IMAGE, 0, 0, part)[0].sum() == two.count(IMAGE, 0, 0, part)[0].sum() == 200

    def test_networks_with_randomness_of_their_own_are_let_through_and_kept_apart(self) -> None:
        class Noisy(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) + torch.randn(len(x), 1)

        assert not self.found(Noisy(3, 192))[1]

    @pytest.mark.parametrize(
        "beside",
        [lambda x: x - x.mean(0), lambda x: x / x.std(), lambda x: x - x.amax(), lambda x: x + x[:1]],
        ids=["mean", "std", "max", "first"],
    )
    def test_answers_that_depend_on_the_images_beside_are_refused(self, beside: Callable[[Tensor], Tensor]) -> None:
        """Their draws are not independent: a bound on the share of votes would be no bound."""

        class Beside(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(beside(x.flatten(1)))

        with pytest.raises(ModelError, match="depends on the other images of a pass"):
            self.found(Beside(3, 192))

    def test_batch_statistics_are_refused(self) -> None:
        class BatchStatistics(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(nn.functional.batch_norm(x, None, None, training=True))

        with pytest.raises(ModelError, match="depends on the other images of a pass"):
            self.found(BatchStatistics(3, 192))


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
        counter(Answers(answer)).manner(IMAGE)


def test_one_nan_among_many_rows_is_found() -> None:
    def scores(x: Tensor) -> Tensor:
        result = torch.zeros(len(x), 3)
        result[17, 2] = float("nan")
        return result

    with pytest.raises(ModelError, match="NaN"):
        counter(Answers(scores)).count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 40)])


def test_rows_that_no_draw_is_in_are_not_looked_at() -> None:
    def scores(x: Tensor) -> Tensor:
        return torch.where((x == 0).all(-1).all(-1), float("nan"), torch.zeros(len(x), 3))

    one = counter(Answers(scores), rows=100)
    assert one.count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 17)])[0].sum() == 17


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
