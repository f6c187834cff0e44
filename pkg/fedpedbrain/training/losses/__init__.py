"""Losses of joint segmentation and classification; one loss per module, chosen in ``study.training_facts``."""
