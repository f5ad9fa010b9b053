"""Where votes are counted: on threads of this process, or by workers on many machines."""

from rs_plugin.evaluation.executors.base import EXECUTORS, Counting, Executor, Found, open_executor

__all__ = ["EXECUTORS", "Counting", "Executor", "Found", "open_executor"]
