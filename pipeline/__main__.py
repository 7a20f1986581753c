"""``python -m pipeline`` is ``medcurve``."""

from pipeline.cli import main

main()
