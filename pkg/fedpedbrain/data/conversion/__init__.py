"""DICOM series to a BIDS folder."""
