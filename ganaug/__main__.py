"""The console script `ganaug`, and `python -m ganaug`: the command line, where it is installed."""

from __future__ import annotations

import sys

_NEEDED = {"cyclopts", "pandas", "pyarrow", "rich"}


def main() -> None:
    """Run the command line; the base install, for `import ganaug`, comes without what it needs."""
    try:
        from ganaug.cli import main as command_line
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        sys.exit(
            f"ganaug: the command line needs {error.name}: pip install 'ganaug[produce]', or 'ganaug[all]'"
        )
    command_line()


if __name__ == "__main__":
    main()
