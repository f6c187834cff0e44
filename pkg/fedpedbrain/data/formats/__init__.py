"""One image from whatever form it is kept in: one module per form, all giving a ``scan.Scan``."""
