"""Can a model be trusted on these scans? Judges model packages from outside."""
