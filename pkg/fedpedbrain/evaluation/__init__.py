"""Validation, model choice, scores on held-out patients, and the comparison of arms."""
