"""The published FLPedBrain cohort."""
