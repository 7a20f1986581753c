"""How good is it, with intervals: every metric, overall, per class and per subgroup."""
