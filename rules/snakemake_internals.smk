# Snakemake's private names, wrapped where it does not do what is needed. Read this again before another version is pinned.
import atexit
import gc
from functools import cache

import snakemake.common
import snakemake.rules
from snakemake.dag import DAG, ScriptProcessor
from snakemake.logging import logger  # run.smk says there what a run needs of the disk
from snakemake.output_index import OutputIndex
from snakemake.persistence.file import FilePersistence

from fedpedbrain.base.files import write_out

# 1. Snakemake asks these questions for every job and file that it plans, and the answer is always the same. Here each is
# asked once per run.

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


# 2. Snakemake looks for no reasons behind a job that runs, since what reads its files runs anyway. But a job that reads
# them as ancient does not run, and its own reasons would be missed (Snakemake issue 4166).
look_at_reasons = DAG.update_needrun


async def look_at_all_reasons(dag, *arguments, **options):
    """As Snakemake does, but the jobs behind one that runs end at ancient files, and each is gone through once."""
    seen = set()

    def jobs_behind(jobs_by_files, *first_jobs):
        waiting = [*first_jobs]
        while waiting:
            job = waiting.pop()
            if job not in seen:
                seen.add(job)
                yield job
                for then, files in jobs_by_files[job].items():
                    if not all(file.is_ancient for file in files):
                        waiting.append(then)

    dag.bfs = jobs_behind
    try:
        await look_at_reasons(dag, *arguments, **options)
    finally:
        del dag.bfs


DAG.update_needrun = look_at_all_reasons


# 3. A power cut would leave a file and take the record of how it was made, so records are synced.
write_record = FilePersistence._io_write


def write_record_out(persistence, folder, values, name, **options):
    """As Snakemake does, and have the disk hold it."""
    write_record(persistence, folder, values, name, **options)
    write_out(persistence._record_path(folder, name))


FilePersistence._io_write = write_record_out
