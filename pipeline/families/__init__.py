"""The families, by name. To add one: a file here, a line in ``FAMILIES``, a YAML in configs."""
