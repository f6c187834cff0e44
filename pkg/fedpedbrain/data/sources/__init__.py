"""Where cases come from: one package per kind of source, all behind the two methods of ``source.Source``."""
