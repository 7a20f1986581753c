"""From a store of arrays to curves, verdicts, a model package and predictions."""

__version__ = "0.1.0"
