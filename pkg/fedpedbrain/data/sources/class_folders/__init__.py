"""Pictures in class folders."""
