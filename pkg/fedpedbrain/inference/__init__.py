"""A new scan and a trained model: regions in the scanner's own geometry, and class probabilities."""
