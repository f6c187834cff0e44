"""Words and files that every room uses; standard library alone."""
