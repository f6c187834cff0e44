"""How a job runs, and what it took."""
