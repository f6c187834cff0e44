"""How updates travel and are combined: encoding, checks, averaging, privacy."""
