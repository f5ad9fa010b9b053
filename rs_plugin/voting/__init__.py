"""Counting the base network's answers under noise."""

from rs_plugin.voting.counter import VoteCounter, block_rows, group_slots
from rs_plugin.voting.manner import Manner
from rs_plugin.voting.passes import PRECISIONS, check_precision, check_scores, computing_in, single_threaded
from rs_plugin.voting.schedule import Answer, Ask, Counts, DrawRange, Part, Poll, Schedule, answers_by, parts_of
from rs_plugin.voting.sharing import turn

__all__ = [
    "PRECISIONS",
    "Answer",
    "Ask",
    "Counts",
    "DrawRange",
    "Manner",
    "Part",
    "Poll",
    "Schedule",
    "VoteCounter",
    "answers_by",
    "block_rows",
    "check_precision",
    "check_scores",
    "computing_in",
    "group_slots",
    "parts_of",
    "single_threaded",
    "turn",
]
