"""A study: families x sizes x subsets x seeds, journaled cell by cell, and what it says."""
