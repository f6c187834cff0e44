"""``write-reference-checkpoint``: a model file as a checkpoint that FL-PedBrain reads."""

import argparse
import logging
from collections.abc import Sequence

from fedpedbrain.models.pretrained import save_reference_checkpoint

logger = logging.getLogger(__name__)


def write_reference_checkpoint(arguments: Sequence[str]) -> None:
    """Write the checkpoint, and say so."""
    parser = argparse.ArgumentParser(prog="python -m fedpedbrain write-reference-checkpoint", description=__doc__)
    parser.add_argument("model", help="model file of i3d_unet at width 1")
    parser.add_argument("checkpoint", help="file to write")
    parser.add_argument("--unused-from", help="reference checkpoint whose layers that feed nothing are taken over")
    request = parser.parse_args(arguments)
    save_reference_checkpoint(request.model, request.checkpoint, request.unused_from)
    logger.info("%s holds the weights of %s", request.checkpoint, request.model)
