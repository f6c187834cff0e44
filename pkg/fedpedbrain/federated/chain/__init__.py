"""The chain of models that an arm leaves, recorded and verified."""
