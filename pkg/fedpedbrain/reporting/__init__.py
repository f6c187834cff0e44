"""Figures, videos and the report, made from tables alone."""
