"""Metrics of sites that tests speak of."""

from fedpedbrain.federated.site_metrics import SiteMetrics


def make_metrics(site: str = "north", round_number: int = 1, num_cases: int = 8, num_steps: int = 4, **changes):
    """Metrics of a site of the arm fedavg that trained, but for the changes."""
    values = {"learning_rate": 0.01, "epoch_losses": (9.0, 1.0), "update_norm": 3.0, "update_bytes": 100}
    values |= {"arm": "fedavg", "seed": 0} | changes
    return SiteMetrics(site=site, round=round_number, num_cases=num_cases, num_steps=num_steps, **values)
