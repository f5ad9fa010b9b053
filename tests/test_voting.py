"""Votes against a plain loop; independence of blocks; what a network may not answer."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rs_plugin.distributions import Gaussian, MixedNorm, SmoothingDistribution
from rs_plugin.errors import ModelError, ParameterError
from rs_plugin.streams import CHUNK, Stream, chunk_seed
from rs_plugin.voting import Answer, Ask, DrawRange, Poll, VoteCounter, block_rows, single_threaded
from rs_plugin.voting.counter import _due, group_slots
from tests.evaluation.toys import SHAPE, Rows

IMAGE = torch.tensor([0.2, 0.9, 0.4, 0.7]).view(SHAPE)
DIM = 4


def counter(
    base: nn.Module, rows: int = 40, noise: SmoothingDistribution | None = None, classes: int = 3
) -> VoteCounter:
    return VoteCounter(base.eval(), noise or Gaussian(0.5), classes, SHAPE, torch.device("cpu"), rows)


@contextmanager
def threads_of_torch(number: int) -> Iterator[None]:
    """Let torch have another number of threads than the tests' own one."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


def test_all_passes_have_one_shape_and_none_is_superfluous(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []

    class Spy(Rows):
        def forward(self, x: Tensor) -> Tensor:
            shapes.append(tuple(x.shape))
            return super().forward(x)

    one = counter(Spy(), rows=64)
    one.manner(IMAGE)
    shapes.clear()
    monkeypatch.setattr("rs_plugin.voting.counter._due", lambda passes: False)
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
    one = counter(Rows(), rows)
    one._manner = one.manner(IMAGE)._replace(mixed=mixed)
    with threads_of_torch(2):
        found = dict(one.run((until(image, i, plans[i]) for i, image in enumerate(images)), threads))
        assert torch.get_num_threads() == 2
    expected = {
        i: counter(Rows()).count(image, i, 0, [DrawRange(Stream.ESTIMATION, 0, plans[i][-1])])[0].tolist()
        for i, image in enumerate(images)
    }
    assert found == expected


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
    with pytest.raises(ParameterError, match="ended without asking for draws"):
        list(one.run([until(IMAGE, 0, [])]))


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

    def found(
        self, base: nn.Module, shape: tuple[int, ...] = (3, 8, 8), rows: int = 128, precision: str = "float32"
    ) -> tuple[str, bool]:
        one = VoteCounter(base.eval(), Gaussian(0.5), 3, shape, torch.device("cpu"), rows, precision)
        return one.manner(torch.rand(shape, generator=torch.Generator().manual_seed(0)))[:2]

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

        class Halves(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x * 0.5)

        part = [DrawRange(Stream.ESTIMATION, 0, 2000)]  # with checks in between
        one, two = (counter(base, 64).count(IMAGE, 0, 0, part)[0] for base in (Writes(), Halves()))
        assert one.tolist() == two.tolist() and one.sum() == 2000

    def test_passes_that_are_no_whole_chunks_keep_images_apart(self) -> None:
        assert [self.found(Rows(3, 192), rows=rows)[1] for rows in (1, 63, 64, 96, 128, 130, 192)] == [
            False, False, True, False, True, False, True
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "add",
        [
            lambda y: y + torch.randn(len(y), 1) * torch.tensor([0.0, 1.0, 0.0]),
            lambda y: y + torch.randn(1, 3),
            lambda y: nn.functional.dropout(y, 0.3),
        ],
        ids=["a draw an image", "a draw a pass", "dropout left on"],
    )
    def test_randomness_of_a_networks_own_is_refused(self, add: Callable[[Tensor], Tensor]) -> None:
        """One draw for a whole pass makes all its answers depend on each other, and nothing tells it from others."""

        class Random(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return add(super().forward(x))

        with pytest.raises(ModelError, match="randomness or memory of its own"):
            self.found(Random(3, 192))

    def test_memory_is_refused(self) -> None:
        class Remembers(Rows):
            seen = 0.0

            def forward(self, x: Tensor) -> Tensor:
                self.seen = 0.5 * self.seen + x.mean()
                return super().forward(x - self.seen)

        with pytest.raises(ModelError, match="randomness or memory of its own"):
            self.found(Remembers(3, 192))

    @pytest.mark.parametrize("rows", [64, 100, 256])
    @pytest.mark.parametrize(
        "beside",
        [
            lambda x: x - x.mean(0),
            lambda x: x / x.std(),
            lambda x: x - x.amax(),
            lambda x: x + x[:1],
            lambda x: x + x[-1:],
            lambda x: x + x.roll(1, 0),
            lambda x: x.clamp(0, 1) - x.clamp(0, 1).mean(0),
            lambda x: torch.where((x == 0).all(-1).any(), torch.nan, x),
            lambda x: x + 1e-6 * x.mean(),
        ],
        ids=["mean", "std", "max", "first", "last", "neighbour", "clamped mean", "NaN", "slightly"],
    )
    def test_answers_that_depend_on_the_images_beside_are_refused(
        self, beside: Callable[[Tensor], Tensor], rows: int
    ) -> None:
        """Their draws are not independent: a bound on the share of votes would be no bound."""

        class Beside(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(beside(x.flatten(1)))

        with pytest.raises(ModelError, match="depends on the other images of a pass"):
            self.found(Beside(3, 192), rows=rows)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("size", [2, 7, 32, 64, 100, 256])
    def test_batch_statistics_are_refused_in_parts_of_a_pass_too(self, size: int, precision: str) -> None:
        class BatchStatistics(Rows):
            def forward(self, x: Tensor) -> Tensor:
                parts = x.split(size)
                assert len(parts[-1]) > 1
                return torch.cat(
                    [super(BatchStatistics, self).forward(nn.functional.batch_norm(p, None, None, training=True))
                     for p in parts]
                )  # fmt: skip

        with pytest.raises(ModelError, match="depends on the other images of a pass"):
            self.found(BatchStatistics(3, 192), rows=256, precision=precision)

    @pytest.mark.parametrize("offset", [0.0, 1e4])
    @pytest.mark.parametrize("mask", [0.0, -1e4, -1e9, torch.finfo(torch.float32).min, -math.inf])
    def test_no_huge_score_hides_that(self, mask: float, offset: float) -> None:
        class Masked(Rows):
            def forward(self, x: Tensor) -> Tensor:
                scores = super().forward(x - x.mean(0)) + offset
                return torch.cat([scores[:, :2], torch.full_like(scores[:, :1], mask)], 1)

        with pytest.raises(ModelError, match="depends on the other images of a pass"):
            self.found(Masked(3, 192))

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("clamp", [False, True])
    def test_a_scale_of_numbers_for_the_whole_pass_is_refused(self, precision: str, clamp: bool) -> None:
        """As in dynamic quantisation."""

        class Quantised(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                scale = x.detach().abs().amax() / 127
                return (x / scale).round() * scale

        class Clamp(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x.clamp(0, 1) if clamp else x

        torch.manual_seed(0)
        base = nn.Sequential(
            Clamp(), nn.Flatten(), Quantised(), nn.Linear(192, 64), nn.ReLU(), Quantised(), nn.Linear(64, 3)
        )
        with pytest.raises(ModelError, match="depends on the other images of a pass"):
            self.found(base, precision=precision)

    def test_a_grossly_wrong_answer_at_some_places_is_refused(self) -> None:
        class Place(Rows):
            def forward(self, x: Tensor) -> Tensor:
                return super().forward(x) * torch.where(torch.arange(len(x)) < 64, 1.0, -1.0).view(-1, 1)

        with pytest.raises(ModelError, match="depends on its place in a pass"):
            self.found(Place(3, 192))

    @pytest.mark.parametrize("threads", [1, 2])
    def test_a_dependence_that_shows_late_ends_the_run(self, threads: int) -> None:
        """A batch leaves by an early exit if all of it is bright, which the first image is not."""

        class Exit(Rows):
            def forward(self, x: Tensor) -> Tensor:
                scores = super().forward(x)
                return -scores if bool((x.flatten(1).mean(1) > 2.0).all()) else scores

        one, dark, bright = counter(Exit(), 64), torch.zeros(SHAPE), torch.full(SHAPE, 4.0)
        one.manner(dark)
        polls = [until(image, i, [640]) for i, image in enumerate([dark, *[bright] * 5])]
        before = threading.active_count()
        with pytest.raises(ModelError, match="depends on the other images of a pass"):
            list(one.run(polls, threads))
        assert threading.active_count() == before

    def test_checks_are_frequent_at_first_and_cheap_later(self) -> None:
        assert [passes for passes in range(1, 300) if _due(passes)] == [4, 16, 64, 128, 192, 256]
        calls: list[int] = []

        class Spy(Rows):
            def forward(self, x: Tensor) -> Tensor:
                calls.append(len(x))
                return super().forward(x)

        one = counter(Spy(), 64)
        one.manner(IMAGE)
        calls.clear()
        one.count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 300 * 64)])
        assert calls == [64] * (300 + 6)


def test_a_compiler_that_fails_is_not_passed_over_the_second_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> nn.Module:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", failing)
    one = VoteCounter(Rows().eval(), Gaussian(0.5), 3, SHAPE, torch.device("cpu"), 64, compiled=True)
    for _ in range(2):
        with pytest.raises(ModelError, match=r"cannot be compiled here \(no compiler\)"):
            one.count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 64)])


@pytest.mark.parametrize("dim", [4, 3072, 150_528])
@pytest.mark.parametrize("rows", [1, 7, 50, 64, 90, 100, 192, 256, 500, 600, 1000, 1024, 4097])
def test_groups_of_chunks_fill_whole_passes(rows: int, dim: int) -> None:
    draws = group_slots(rows, dim) * CHUNK
    passes = math.ceil(draws / rows)
    assert passes * rows <= 1.05 * draws
    assert draws <= 2 * rows + 20 * CHUNK  # which is what the buffers hold


def test_rows_of_no_draw_are_black_whatever_was_there_before() -> None:
    seen: list[Tensor] = []
    base = Rows()
    base.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    one = counter(base, 100)
    one.count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 6400)])
    seen.clear()
    one.count(IMAGE, 0, 0, [DrawRange(Stream.ESTIMATION, 0, 64)])
    assert len(seen) == 1 and not seen[0][64:].any() and seen[0][:64].flatten(1).any(1).all()


def test_threads_that_cannot_be_had_end_those_that_could(monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = threading.Thread.start, [0]

    def failing(thread: threading.Thread) -> None:
        started[0] += 1
        if started[0] == 3:
            raise RuntimeError("can't start new thread")
        start(thread)

    one, before = counter(Rows(), 64), threading.active_count()
    one.manner(IMAGE)
    monkeypatch.setattr(threading.Thread, "start", failing)
    with pytest.raises(ParameterError, match=r"5 threads cannot be had here \(can't start new thread\)"):
        list(one.run((until(IMAGE, i, [64_000]) for i in range(1000)), 5))
    assert threading.active_count() == before


def test_asks_are_shared_by_threads() -> None:
    one, part = counter(Rows(), 64), [DrawRange(Stream.ESTIMATION, 0, 6400)]
    asks = [Ask(IMAGE, i, 0, part) for i in range(20)]
    names: set[str] = set()
    fill = one._noise.fill_chunks
    one._noise.fill_chunks = lambda *args: (names.add(threading.current_thread().name), fill(*args))[1]  # type: ignore[method-assign]
    answers = one.ask(asks, 2)
    assert len(names) == 2
    assert [a.counts[0].tolist() for a in answers] == [a.counts[0].tolist() for a in one.ask(asks)]


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
        (lambda x: torch.zeros(len(x), 3) > 0, "torch.bool scores"),
        (lambda x: torch.zeros(len(x), 3, dtype=torch.complex64), "torch.complex64 scores"),
        (lambda x: torch.zeros(len(x), 3).to_sparse(), "must be real numbers in a dense tensor"),
        (None, "returned NoneType"),
    ],
    ids=["nan", "inf", "-inf", "fails", "classes", "1d", "3d", "row", "tuple", "bool", "complex", "sparse", "none"],
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
    with threads_of_torch(2):
        with single_threaded():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError), single_threaded():
            _ = 1 / 0
        assert torch.get_num_threads() == 2
