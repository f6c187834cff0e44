"""FedNova: sites count by their direction, not by how many steps they went."""

from fedpedbrain.federated.strategies.strategy import Combined, Memory, RoundUpdates, Strategy, Weights, moved


class FedNova(Strategy):
    """Wang et al., "Tackling the Objective Inconsistency Problem", NeurIPS 2020.

    Every site's difference to the round's start is divided by its number of steps; their weighted mean is multiplied
    by the weighted mean number of steps.
    """

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Move from the start by the mean direction times the mean number of steps."""
        mean = updates.mean(lambda update: update.count / max(update.num_steps, 1))
        seen = [(update.count, update.num_steps) for update in updates]
        total = sum(count for count, _ in seen)
        steps = sum(count * num_steps for count, num_steps in seen) / total
        # What the factors of the mean sum to, by which the mean was divided.
        rate = steps * sum(count / max(num_steps, 1) for count, num_steps in seen) / total
        for name in updates.parameter_names:
            mean[name] = moved(parent[name], mean[name].double() - parent[name].double(), rate)
        return Combined(mean, {})
