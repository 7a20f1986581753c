"""From raw scans to a store of arrays: everything deterministic, nothing that learns."""
