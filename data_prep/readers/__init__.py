"""Readers: scans on disk -> Volume. Each is chosen by content, never by name."""
