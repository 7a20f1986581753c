"""The model package, how it is chosen, and how it meets folders of scans."""
