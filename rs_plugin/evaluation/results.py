"""The result of an evaluation: one record per image, one row per radius, and what is written to disk."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rs_plugin.certificates import Certificate
from rs_plugin.errors import counted
from rs_plugin.estimation import AlphaBudget, clopper_pearson_lower, clopper_pearson_upper
from rs_plugin.evaluation.store import ImageVotes
from rs_plugin.files import write_whole
from rs_plugin.outcomes import Outcome, Status, anytime_outcome, fixed_outcomes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RESULT_VERSION: Final = 1
_INTERVAL_ALPHA: Final = 0.05  # of the intervals of accuracies over images


class Run:
    """The outcome of an evaluation; ``evaluate`` and ``recertify`` return it.

    Attributes:
        key: identifies the votes in their store.
        config: everything that decided the votes.
        certificate: what turned bounds into radii.
        radii: the listed radii, 0 first.
        alpha: failure probability per image.
        votes: what was counted, one per image.
        outcomes: one per image.
    """

    def __init__(
        self,
        key: str,
        config: dict[str, Any],
        votes: Sequence[ImageVotes],
        certificate: Certificate,
        radii: Sequence[float],
        alpha: float,
        budget: AlphaBudget,
        dataset: str,
    ) -> None:
        self.key, self.config, self.certificate = key, config, certificate
        self.radii, self.alpha, self.dataset = list(radii), alpha, dataset
        self.votes, self._budget = list(votes), budget
        self.required = np.atleast_1d(certificate.required_probability(self.radii))
        self.outcomes = self._judge()

    @property
    def precision(self) -> str:
        """What the network computed in: ``"float32"``, ``"bfloat16"`` or ``"float16"``."""
        autocast = str(self.config["autocast"])
        return "float32" if autocast == "none" else autocast

    @property
    def compiled(self) -> bool:
        """Whether ``torch.compile`` of the network gave the votes."""
        return bool(self.config.get("compiled", False))  # older runs do not say it

    @property
    def sound(self) -> int:
        """Steps from 0 to 1 of the grid on which votes were counted in whole numbers; 0 if they were not."""
        return int(self.config.get("sound", 0))

    def _judge(self) -> list[Outcome]:
        labels = [row.label for row in self.votes]
        if self.config["stopping"] == "fixed":
            selection = np.stack([row.selection for row in self.votes])
            counts = np.stack([row.counts for row in self.votes])
            outcomes = fixed_outcomes(selection, counts, labels, self.certificate, self._budget.votes)
            return [self._with_listed(outcome) for outcome in outcomes]
        return [
            anytime_outcome(
                row.selection, row.counts, row.label, self.radii, self.required.tolist(), self._budget.votes
            )
            for row in self.votes
        ]

    def __repr__(self) -> str:
        """Return what was run and how it came out."""
        return (
            f"<Run {self.key[:12]}: {self.certificate.noise}, {self.certificate.threat_model}, "
            f"{counted(len(self.outcomes), 'image')} of {self.dataset!r}, smoothed accuracy "
            f"{self.smoothed_accuracy:.1%}>"
        )

    def table(self) -> pd.DataFrame:
        """Return one row per radius.

        Columns: ``radius``; ``certified_accuracy`` and its 95 % Clopper-Pearson interval over images
        ``certified_low``, ``certified_high``; ``smoothed_accuracy`` (right and not abstained); ``base_accuracy`` (the
        base network, no noise); ``abstained``; ``required_probability``; ``images``; ``draws`` spent on all images.
        Accuracies are shares of all images.
        """
        import pandas as pd

        count = len(self.outcomes)
        held = np.array([sum(o.holds_at(radius) for o in self.outcomes) for radius in self.radii])
        half = _INTERVAL_ALPHA / 2.0
        return pd.DataFrame(
            {
                "radius": self.radii,
                "certified_accuracy": held / count,
                "certified_low": np.asarray(clopper_pearson_lower(held, count, half)),
                "certified_high": np.asarray(clopper_pearson_upper(held, count, half)),
                "smoothed_accuracy": self.smoothed_accuracy,
                "base_accuracy": self.base_accuracy,
                "abstained": self.abstention_rate,
                "required_probability": self.required,
                "images": count,
                "draws": self.draws,
            }
        )

    def _with_listed(self, outcome: Outcome) -> Outcome:
        """Return the outcome with its radius raised to the largest listed one that its bound proves.

        The radius found by search is rounded down and may fall short of a listed one by that.
        """
        if outcome.prediction is None:
            return outcome
        proven = [r for r, p in zip(self.radii, self.required, strict=True) if outcome.p_lower > p]
        return replace(outcome, radius=max([outcome.radius, *proven]))

    def records(self) -> pd.DataFrame:
        """Return one row per image: index, label, prediction, votes, n, p_lower, radius, status, seconds.

        ``prediction`` is missing (``<NA>``) where the classifier abstains.
        """
        import pandas as pd

        frame = pd.DataFrame(
            {
                "index": [row.index for row in self.votes],
                "label": [row.label for row in self.votes],
                "prediction": pd.array([o.prediction for o in self.outcomes], dtype="Int64"),
                "votes": [o.votes.tolist() for o in self.outcomes],
                "n": [o.n for o in self.outcomes],
                "p_lower": [o.p_lower for o in self.outcomes],
                "radius": [o.radius for o in self.outcomes],
                "status": [o.status.value for o in self.outcomes],
                "seconds": [row.seconds for row in self.votes],
            }
        )
        return frame

    @property
    def smoothed_accuracy(self) -> float:
        """Share of images that the smoothed classifier answers rightly; abstentions count as errors."""
        return sum(o.status is Status.CERTIFIED for o in self.outcomes) / len(self.outcomes)

    @property
    def base_accuracy(self) -> float:
        """Share of images, without noise, that the base network answers rightly."""
        return sum(row.base == row.label for row in self.votes) / len(self.votes)

    @property
    def abstention_rate(self) -> float:
        """Share of images on which the smoothed classifier abstains."""
        return sum(o.status is Status.ABSTAINED for o in self.outcomes) / len(self.outcomes)

    @property
    def draws(self) -> int:
        """Draws spent on all images, those that chose the class included."""
        return sum(int(row.selection.sum() + row.counts.sum()) for row in self.votes)

    @property
    def average_certified_radius(self) -> float:
        """Mean radius over all images, 0 where wrong or abstained; NaN for anytime runs, where it is not defined."""
        if self.config["stopping"] != "fixed":
            return math.nan
        return float(np.mean([o.radius if o.status is Status.CERTIFIED else 0.0 for o in self.outcomes]))

    def plot(self) -> Figure:
        """Return a figure of certified accuracy against radius."""
        from rs_plugin.report.plots import plot_runs

        return plot_runs([self])

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, the contents of the JSON file."""
        table = self.table()
        return {
            "format": "rs_plugin.run",
            "version": RESULT_VERSION,
            "key": self.key,
            "config": self.config,
            "dataset": self.dataset,
            "noise": str(self.certificate.noise),
            "threat_model": self.certificate.threat_model,
            "method": self.certificate.method,
            "alpha": self.alpha,
            "certificate_failure_probability": self.certificate.failure_probability,
            "base_accuracy": self.base_accuracy,
            "smoothed_accuracy": self.smoothed_accuracy,
            "abstained": self.abstention_rate,
            "average_certified_radius": _plain(self.average_certified_radius),
            "draws": self.draws,
            "table": [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")],
            "records": [
                {
                    "index": row.index,
                    "label": row.label,
                    "prediction": outcome.prediction,
                    "votes": outcome.votes.tolist(),
                    "n": outcome.n,
                    "p_lower": outcome.p_lower,
                    "radius": _plain(outcome.radius),
                    "status": outcome.status.value,
                    "seconds": row.seconds,
                }
                for row, outcome in zip(self.votes, self.outcomes, strict=True)
            ],
        }

    def to_json(self, path: str | Path) -> Path:
        """Write everything to a JSON file, whole or not at all; floats are written so that they read back the same."""
        target = Path(path)
        write_whole(target, json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")
        return target

    def to_tsv(self, path: str | Path, digits: int = 6) -> Path:
        """Write the six columns of the literature: idx, label, predict, radius, correct, time.

        Radii are rounded down to ``digits`` decimals; an abstention is written as class -1, as the format has it.
        """
        lines = ["idx\tlabel\tpredict\tradius\tcorrect\ttime"]
        for row, outcome in zip(self.votes, self.outcomes, strict=True):
            predict = -1 if outcome.prediction is None else outcome.prediction
            correct = int(outcome.status is Status.CERTIFIED)
            radius = round_down(outcome.radius, digits)
            lines.append(f"{row.index}\t{row.label}\t{predict}\t{radius}\t{correct}\t{row.seconds:.3f}")
        target = Path(path)
        write_whole(target, "\n".join(lines) + "\n")
        return target


def round_down(value: float, digits: int) -> str:
    """Return a number as text, rounded towards minus infinity; read back, it is never above the number.

    >>> round_down(0.99999, 3), round_down(0.3, 6)
    ('0.999', '0.300000')
    """
    if math.isinf(value) or math.isnan(value):
        return str(value)
    room = Context(prec=400, rounding=ROUND_FLOOR)  # for the digits of the largest float
    return f"{Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), context=room):f}"


def _plain(value: Any) -> Any:
    """Return a JSON value: None for NaN, the text ``inf`` for an infinite radius."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    return "inf" if isinstance(value, float) and math.isinf(value) else value
