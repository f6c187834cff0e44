"""Cyclic weight transfer: the model goes from site to site."""

from fedpedbrain.federated.strategies.strategy import Combined, Memory, RoundUpdates, Strategy, Weights


class Cyclic(Strategy):
    """Chang et al., "Distributed deep learning networks among institutions for medical imaging", JAMIA 2018.

    Within a round every site goes on from the update of the site before it.
    """

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Take what the last site made."""
        last = [len(updates) - 1]
        return Combined(updates.choose(last).combine(lambda name, rows: rows[0]), {}, updates.shares_of(last))
