"""Evaluation: votes counted, stored and turned into certified accuracies."""

from rs_plugin.evaluation.evaluate import evaluate
from rs_plugin.evaluation.planning import Plan, plan
from rs_plugin.evaluation.recertify import recertify
from rs_plugin.evaluation.results import Run
from rs_plugin.evaluation.store import ImageVotes, VoteStore

__all__ = ["ImageVotes", "Plan", "Run", "VoteStore", "evaluate", "plan", "recertify"]
