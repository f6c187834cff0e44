# What Snakemake asks at every job and file that it plans, though all of them have the same answer: here it is asked once.
import atexit
import gc
from functools import cache

import snakemake.common
import snakemake.rules
from snakemake.dag import ScriptProcessor
from snakemake.output_index import OutputIndex

# A job graph is no garbage: looking through it a hundredth as often saves a tenth of the time that planning takes.
gc.set_threshold(100 * gc.get_threshold()[0])
# Nor is it searched once more when Python ends.
atexit.register(gc.freeze)

# The parameters of a rule's functions, up to three times each.
params_of = cache(snakemake.common.get_function_params)
snakemake.common.get_function_params = snakemake.rules.get_function_params = params_of

# Which rules make a file, of each job that reads it.
OutputIndex.match_producers = cache(OutputIndex.match_producers)

# Whether a rule's script is there.
find_script = ScriptProcessor.process_job
scripts_found = set()


def find_script_once(processor, job):
    """As Snakemake does for every job, for the first of a rule."""
    if (processor.script_type, job.rule) not in scripts_found:
        find_script(processor, job)
        scripts_found.add((processor.script_type, job.rule))


ScriptProcessor.process_job = find_script_once
