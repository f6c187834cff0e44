"""Figures, each from one table."""
