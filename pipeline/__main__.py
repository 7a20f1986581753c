"""The command's beginning, which imports nothing that takes time; ``python -m pipeline`` is it too.

Importing the command line takes a good part of a second: Ctrl-C may come before it is there.
"""

import signal
import sys


def main() -> None:
    """Entry point of the ``medcurve`` command."""
    try:
        from pipeline.cli import main as command

        sys.exit(command())
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what is left is to end: no traceback of that


if __name__ == "__main__":
    main()
