"""Strategies by which every site ends with weights of its own."""

from torch import nn

from fedpedbrain.federated.strategies.strategy import Strategy

_NORMALISATIONS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
)


class FedBN(Strategy):
    """Li et al., "FedBN: Federated Learning on Non-IID Features via Local Batch Normalization", ICLR 2021.

    Every site goes on from its own normalisation layers, of whichever kind the network has. Their averages are kept
    in the global model all the same, for sites that never trained.
    """

    def personal_names(self, model: nn.Module) -> set[str]:
        """Parameters and buffers of the normalisation layers."""
        return {
            f"{layer_name}.{name}"
            for layer_name, layer in model.named_modules()
            if isinstance(layer, _NORMALISATIONS)
            for name in layer.state_dict()
        }


class Ditto(Strategy):
    """Li et al., "Ditto: Fair and Robust Federated Learning Through Personalization", ICML 2021.

    The common model is FedAvg's; beside it every site trains one of its own, pulled towards the round's start.
    """

    def __init__(self, **options: float) -> None:
        # The paper's name for it is a keyword of the language.
        self.personal_pull = options["lambda"]
