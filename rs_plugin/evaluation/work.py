"""How the votes of each image are counted, and whether those that are stored are this network's."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Final

import numpy as np

from rs_plugin.errors import StoreError
from rs_plugin.estimation import StoppingRule, draws_left, select_class
from rs_plugin.evaluation.asked import Asked
from rs_plugin.evaluation.executors import Executor
from rs_plugin.evaluation.store import ImageVotes, image_digest
from rs_plugin.streams import Stream
from rs_plugin.voting import Answer, Ask, Counts, DrawRange, Poll, answers_by

_RECOUNTED: Final = 16  # images whose stored votes are checked at every reuse


class Work:
    """The polls of an evaluation's images.

    Args:
        asked: the evaluation.
        counters: who answers the polls.
    """

    def __init__(self, asked: Asked, counters: Executor) -> None:
        self._data, self._counters, self._rule = asked.data, counters, asked.rule()
        self._n0, self._n, self._seed = asked.n0, asked.n, asked.seed
        # Threads that count go on with the polls while another one asks how far they are, of copies.
        self._open: dict[int, int] = {}  # draws so far, by position
        self._ended: list[int] = []  # draws of images that are done

    def polls(self, positions: Iterable[int]) -> Iterator[Poll[ImageVotes]]:
        """Yield what asks for the votes of the image at each position of the data set."""
        return map(self._poll, positions)

    @property
    def draws(self) -> int:
        """Draws that were counted."""
        return sum(self._ended) + sum(self._open.copy().values())

    def draws_left(self, images: int) -> tuple[float, float]:
        """Return the draws that so many images may still take which are not done: the least and the most to expect."""
        ages = list(self._open.copy().values())
        return draws_left(self._ended.copy(), ages, images - len(ages), self._n0 + self._n)

    def check(self, stored: dict[int, ImageVotes], where: str) -> None:
        """Refuse stored votes that are of other images, or not of this network.

        The key of a run describes its network as far as a description goes. What it computes with may lie beyond that,
        in a module that was edited for instance; so the draws that chose the class are made again for some of the
        images, other ones at every call, and must fall as they did, but for rounding on another machine.

        Raises:
            StoreError: they are.
        """
        remedy = "use another store"
        positions = [i for i, index in enumerate(self._data.indices.tolist()) if index in stored]
        for position in positions:
            index, label = int(self._data.indices[position]), int(self._data.labels[position])
            if stored[index].digest != image_digest(self._data.images[position], label):
                raise StoreError(
                    f"{where} has votes of another image, or label, at index {index}: the data were changed since; "
                    f"{remedy}"
                )
        chosen = np.random.default_rng().permutation(positions)[:_RECOUNTED]
        selection = DrawRange(Stream.SELECTION, 0, self._n0)
        asks = [self._ask(position, [selection]) for position in chosen.tolist()]
        for ask, again in zip(asks, answers_by(self._counters.run, asks), strict=True):
            moved = int(np.abs(again.counts[0] - stored[ask.index].selection).sum()) // 2
            if moved > 1 + self._n0 // 50:
                raise StoreError(
                    f"{where} has votes that are not this network's: {moved} of {self._n0} draws fall otherwise now "
                    f"for image {ask.index}; something that it computes with was changed since; {remedy}"
                )

    def _ask(self, position: int, ranges: list[DrawRange], *, clean: bool = False) -> Ask:
        return Ask(self._data.images[position], int(self._data.indices[position]), self._seed, ranges, clean)

    def _poll(self, position: int) -> Poll[ImageVotes]:
        selection_draws = DrawRange(Stream.SELECTION, 0, self._n0)
        self._open[position] = 0
        if self._rule is None:
            draws = [selection_draws, DrawRange(Stream.ESTIMATION, 0, self._n)]
            answer = yield self._ask(position, draws, clean=True)
            (selection, votes), seconds = answer.counts, answer.seconds
        else:
            answer = yield self._ask(position, [selection_draws], clean=True)
            (selection,), seconds = answer.counts, answer.seconds
            self._open[position] += self._n0
            votes, more = yield from self._until_decided(position, int(select_class(selection)), self._rule)
            seconds += more
        index, label = int(self._data.indices[position]), int(self._data.labels[position])
        assert answer.base is not None
        digest = image_digest(self._data.images[position], label)
        del self._open[position]
        self._ended.append(self._n0 + int(votes.sum()))
        return ImageVotes(index, label, answer.base, selection, votes, seconds, digest)

    def _until_decided(
        self, position: int, chosen: int, rule: StoppingRule
    ) -> Generator[Ask, Answer, tuple[Counts, float]]:
        votes, seconds = np.zeros(self._data.num_classes, dtype=np.int64), 0.0
        while True:
            seen = int(votes.sum())
            total = int(rule.next_look(votes[chosen], seen))
            if total == seen:
                return votes, seconds
            answer = yield self._ask(position, [DrawRange(Stream.ESTIMATION, seen, total)])
            votes, seconds = votes + answer.counts[0], seconds + answer.seconds
            self._open[position] += total - seen
