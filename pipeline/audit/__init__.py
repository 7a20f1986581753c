"""What scanners and people do to scans, done to a model on purpose: its invariance audit."""
