"""Reports of runs: text tables and plots."""
