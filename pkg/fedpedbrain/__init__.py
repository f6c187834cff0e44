"""Federated-learning studies on multi-site medical images.

Importing this package loads neither torch nor pandas: workflow rules import it while the job graph is built.
"""
