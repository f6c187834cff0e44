"""Doors of ``python -m fedpedbrain COMMAND``: one module per command."""
