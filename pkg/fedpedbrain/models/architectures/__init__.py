"""One network per module."""
