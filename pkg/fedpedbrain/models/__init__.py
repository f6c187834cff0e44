"""Networks, the files that carry them, and running them."""
