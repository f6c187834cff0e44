"""What the job graph asks: fingerprints, kept rounds, priorities, disk, records; the layout of the results."""
