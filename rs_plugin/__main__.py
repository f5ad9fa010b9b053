"""``python -m rs_plugin`` is ``rs-plugin``."""

from rs_plugin.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
