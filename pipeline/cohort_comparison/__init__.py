"""Two cohorts side by side: do their scans look alike, and if not, in what do they differ?"""
