"""The evaluation page of a model, and its card."""
