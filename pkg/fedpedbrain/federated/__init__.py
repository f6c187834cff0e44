"""The exchange between sites and server: checking and averaging updates."""
