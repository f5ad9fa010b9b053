"""Leaderboards of certified models, from ``model_info`` files: Markdown, LaTeX, HTML, and the SoK board's YAML."""

from rs_plugin.robustbench.leaderboard.entries import Entry, read_entries
from rs_plugin.robustbench.leaderboard.write import write_leaderboard

__all__ = ["Entry", "read_entries", "write_leaderboard"]
