"""``python -m fedpedbrain COMMAND``: what is done beside the workflow."""

import argparse
import importlib
import logging
import sys

from fedpedbrain.base.errors import StudyError

# Command to the function that does it, loaded when called. It gets the command's own arguments.
COMMANDS = {
    "describe-config": "fedpedbrain.commands.describe_config.describe_config",
    "describe-outputs": "fedpedbrain.commands.describe_outputs.describe_outputs",
    "write-reference-checkpoint": "fedpedbrain.commands.write_reference_checkpoint.write_reference_checkpoint",
}


def run_command() -> int:
    """Run the command that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m fedpedbrain", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="COMMAND --help describes them")
    request = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    module, function = COMMANDS[request.command].rsplit(".", 1)
    try:
        getattr(importlib.import_module(module), function)(request.arguments)
    except StudyError as error:
        logging.getLogger("fedpedbrain").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_command())
