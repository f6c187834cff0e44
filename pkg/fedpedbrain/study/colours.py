"""One colour an arm, the same in every figure, table and video. Standard library only: the job graph needs them too."""

from collections.abc import Mapping, Sequence

# Okabe and Ito (2008), told apart with every common colour vision; the two that are weak on paper come last.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
# More arms than colours are told apart by what stands beside them, not by a legend.
MOST_ARMS_BY_COLOUR = len(OKABE_ITO)
# Part of white, or of black (negative), in the colours of the second and third time through the palette, and how many
# colours take it: paler yellow is lost on paper, darker black is black.
_SHADES = {0.5: 7, -0.4: 6}


def _shaded(colour: str, shade: float) -> str:
    """A colour mixed with white, or with black where ``shade`` is negative."""
    end = 255 if shade > 0 else 0
    channels = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "#" + "".join(f"{round(value + abs(shade) * (end - value)):02X}" for value in channels)


PALETTE = (*OKABE_ITO, *(_shaded(colour, shade) for shade, last in _SHADES.items() for colour in OKABE_ITO[:last]))


def arm_colours(arms: Sequence[str], configured: Mapping[str, str]) -> dict[str, str]:
    """Give every arm a colour.

    Parameters
    ----------
    arms : every arm of the study in the order of the config, on which the colours of the others depend
    configured : colours that the config asks for

    Returns
    -------
    arm to colour: the configured one, or the next of the Okabe-Ito palette that no arm has; when all are taken the
    palette starts again, paler and then darker
    """
    taken = {configured[arm].upper() for arm in arms if arm in configured}
    free = [colour for colour in PALETTE if colour not in taken] or list(PALETTE)
    others = [arm for arm in arms if arm not in configured]
    fallback = {arm: free[number % len(free)] for number, arm in enumerate(others)}
    return {arm: configured.get(arm) or fallback[arm] for arm in arms}
