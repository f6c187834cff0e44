"""Differential privacy of what sites send: bounded differences, seeded noise, and what both are worth as epsilon."""

import math
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from fedpedbrain.base.errors import StudyError

# Orders of Renyi divergence among which the smallest epsilon is taken: each gives a true bound. Beyond 1024 the
# accountant's binomial coefficients leave float64.
_ORDERS = (
    *(1.0 + step / 100.0 for step in range(1, 10)),
    *(1.0 + step / 10.0 for step in range(1, 100)),
    *range(11, 64),
    *(64, 80, 96, 128, 160, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024),
)


def clip_difference(difference: Mapping[str, Tensor], clip_norm: float) -> tuple[dict[str, Tensor], float]:
    """Shorten what a site sends to a length (McMahan et al., "Learning Differentially Private RNNs", ICLR 2018).

    Parameters
    ----------
    difference : a site's weights less the round's start; integer tensors neither count nor change
    clip_norm : largest L2 norm of all floating-point tensors together; infinite for no bound

    Returns
    -------
    the difference, scaled to ``clip_norm`` if it was longer, and its norm before, computed in float64

    Raises
    ------
    StudyError : it holds NaN or infinite numbers, which no scaling bounds
    """
    squares = [tensor.double().square().sum().item() for tensor in difference.values() if tensor.is_floating_point()]
    norm = math.sqrt(math.fsum(squares))
    if not math.isfinite(norm):
        raise StudyError("an update is not finite, so its difference cannot be clipped; train with a lower rate")
    if norm <= clip_norm:
        return dict(difference), norm
    factor = clip_norm / norm
    clipped = {
        name: (tensor.double() * factor).to(tensor.dtype) if tensor.is_floating_point() else tensor
        for name, tensor in difference.items()
    }
    return clipped, norm


def noise_like(weights: Mapping[str, Tensor], standard_deviation: float, seed: int) -> dict[str, Tensor]:
    """Draw Gaussian noise for the floating-point tensors of ``weights``, in their shapes and dtypes.

    Names take their noise in sorted order, so that the order of the mapping changes nothing. Who knows the seed can
    take the noise off again: it protects from those who do not.

    Returns
    -------
    noise of each floating-point tensor; adding that of standard deviation 0 changes no bit
    """
    names = sorted(name for name, tensor in weights.items() if tensor.is_floating_point())
    if standard_deviation == 0:
        # -0.0 and not 0.0, which would turn the weight -0.0 into 0.0.
        return {name: torch.full_like(weights[name], -0.0) for name in names}
    generator = torch.Generator().manual_seed(seed)
    noise = {}
    for name in names:
        drawn = torch.randn(weights[name].shape, generator=generator, dtype=torch.float64)
        noise[name] = (drawn * standard_deviation).to(weights[name])
    return noise


def server_noise_deviation(noise_multiplier: float, clip_norm: float, largest_factor: float) -> float:
    """Standard deviation of the noise on a weighted average of clipped differences (McMahan et al., ICLR 2018).

    A site moves the average by at most ``clip_norm`` times its factor, as against its having sent no difference, the
    factors staying as they are. The noise is ``noise_multiplier`` times what the weightiest site can do.

    Parameters
    ----------
    noise_multiplier : 0 for no noise
    clip_norm : bound of one site's difference
    largest_factor : the largest share that one site has in the average, in (0, 1]

    Raises
    ------
    StudyError : noise is asked for where nothing bounds the differences
    """
    if noise_multiplier == 0:
        return 0.0
    if not math.isfinite(clip_norm):
        raise StudyError(f"a noise multiplier of {noise_multiplier:g} needs a finite clip norm, found {clip_norm}")
    return noise_multiplier * clip_norm * largest_factor


def epsilon_of(noise_multiplier: float, sample_rate: float, num_steps: int, delta: float) -> float:
    """Bound of (epsilon, delta)-differential privacy after steps of the sampled Gaussian mechanism.

    By Opacus's accountant of Renyi divergences (Mironov et al., "Renyi Differential Privacy of the Sampled Gaussian
    Mechanism", 2019). Neighbours differ by the presence of one member: a case, or a site.

    Parameters
    ----------
    noise_multiplier : standard deviation of the noise over the bound of one member's contribution
    sample_rate : probability with which a member takes part in a step, independently of the others; in (0, 1]
    num_steps : of all rounds together
    delta : probability in which the bound may fail, in (0, 1)

    Returns
    -------
    epsilon, in natural units; infinite without noise, 0 before the first step
    """
    if num_steps == 0:
        return 0.0
    if noise_multiplier == 0:
        return math.inf
    # Takes seconds to import.
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history.append((noise_multiplier, sample_rate, num_steps))
    with warnings.catch_warnings():
        # That another order might give a tighter bound; this one holds all the same.
        warnings.filterwarnings("ignore", "Optimal order is the")
        return max(0.0, accountant.get_epsilon(delta, _ORDERS))
