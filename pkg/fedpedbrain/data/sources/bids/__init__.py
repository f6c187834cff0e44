"""Cases of a BIDS folder."""
