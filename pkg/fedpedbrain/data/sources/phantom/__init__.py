"""The embedded simulated cohort."""
