"""The gallery: one page to look through a batch of predictions."""
