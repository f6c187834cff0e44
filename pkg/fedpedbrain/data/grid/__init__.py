"""The network's grid: geometry, intensities, and data sets of preprocessed cases."""
