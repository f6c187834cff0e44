"""FedNova: sites count by their direction, not by how far their steps went."""

from fedpedbrain.federated.strategies.strategy import Combined, Memory, RoundUpdates, Strategy, Weights, moved


def counted_gradients(num_steps: int, momentum: float) -> float:
    """How often the steps of a round count a gradient, together: the paper's ``||a||_1``.

    A gradient lasts on in the steps after it, so that step k moves by ``1 + momentum + ... + momentum**(k - 1)``
    gradients; without momentum each by one.
    """
    lasting = momentum * (1.0 - momentum**num_steps) / (1.0 - momentum)
    return (num_steps - lasting) / (1.0 - momentum)


class FedNova(Strategy):
    """Wang et al., "Tackling the Objective Inconsistency Problem", NeurIPS 2020.

    Every site's difference to the round's start is divided by how often it counts a gradient; their weighted mean is
    multiplied by the weighted mean of these numbers. Exact for SGD without momentum or with one that begins anew
    in every round. With momentum that is kept every gradient counts alike in the end, so that the number of steps will
    do; for optimizers whose steps are no sums of gradients (Adam and its like) that number stands in.
    """

    def combine(self, parent: Weights, updates: RoundUpdates, state: Memory) -> Combined:
        """Move from the start by the mean direction times the mean length."""
        seen = [(update.count, counted_gradients(max(update.num_steps, 1), updates.momentum)) for update in updates]
        lengths = {update.site: length for update, (_, length) in zip(updates, seen, strict=True)}
        mean = updates.mean(lambda update: update.count / lengths[update.site])
        total = sum(count for count, _ in seen)
        length = sum(count * length for count, length in seen) / total
        # What the factors of the mean sum to, by which the mean was divided.
        rate = length * sum(count / length for count, length in seen) / total
        for name in updates.parameter_names:
            mean[name] = moved(parent[name], mean[name].double() - parent[name].double(), rate)
        return Combined(mean, {})
