"""Cases of a table of files."""
