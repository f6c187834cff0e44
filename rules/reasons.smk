# Which jobs are looked at for reasons to run. Snakemake looks at none behind a job that runs, since what reads its files runs
# anyway; but what reads them as ancient does not, and its own reasons would be missed: training, where the audit runs, too.
from snakemake.dag import DAG

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
