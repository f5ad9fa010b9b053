"""The generators in this folder are run by hand; pytest reads only the tests and ``reference.json``."""

collect_ignore_glob = ["generate_*.py", "check_*.py", "oracle_common.py"]
