# What is in the preprocessed cohort, and what a careful reader should know of it. Training waits for the audit, which
# refuses what check_cohort cannot see.


rule find_duplicates:
    """Compare all cases with each other: exact copies and near duplicates, within and across sites."""
    input:
        shards=shards(SITES),
    output:
        duplicates="results/cohort/duplicates.tsv",
    log:
        "results/logs/cohort/duplicates.log",
    benchmark:
        "results/benchmarks/cohort/duplicates.tsv"
    priority: priorities.UNBLOCKS_TRAINING
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        folders=shard_folders,
        settings=STUDY.duplicate_settings,
        code=code("find_duplicates"),
    message:
        "cohort: looking for duplicates"
    script:
        "../workflow_scripts/find_duplicates.py"


rule audit_cohort:
    """Count and check the preprocessed cohort: cases by site, class and split, shapes, spacings, problems."""
    input:
        shards=shards(SITES),
        outlines=expand("results/cohort/sites/{site}/outlines.tsv", site=SITES),
        left_out="results/cohort/left_out.tsv",
        duplicates="results/cohort/duplicates.tsv",
    output:
        audit="results/cohort/audit.json",
        cases=expand("results/cohort/sites/{site}/audit.tsv", site=SITES),
        table=report(
            "results/tables/cohort.tsv",
            caption="captions/cohort_table.rst",
            category="Cohort",
            labels={"table": "cases by site, class and split"},
        ),
    log:
        "results/logs/cohort/audit.log",
    benchmark:
        "results/benchmarks/cohort/audit.tsv"
    priority: priorities.UNBLOCKS_TRAINING
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        folders=shard_folders,
        cohort=STUDY.config["cohort"],
        settings=STUDY.config["audit"],
        code=code("audit_cohort"),
    message:
        "cohort: auditing"
    script:
        "../workflow_scripts/audit_cohort.py"


rule write_audit_page:
    """The audit to look at: one HTML file that needs nothing else."""
    input:
        audit="results/cohort/audit.json",
        duplicates="results/cohort/duplicates.tsv",
        shards=shards(SITES),
        quality=expand("results/figures/quality/{site}.png", site=SITES),
    output:
        page="results/cohort/audit.html",
    log:
        "results/logs/cohort/audit_page.log",
    benchmark:
        "results/benchmarks/cohort/audit_page.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        folders=shard_folders,
        title=STUDY.config["study"]["title"],
        cohort=STUDY.config["cohort"],
        settings=STUDY.config["audit"],
        code=code("write_audit_page"),
    message:
        "cohort: writing results/cohort/audit.html"
    script:
        "../workflow_scripts/write_audit_page.py"


rule plot_quality:
    """One site's cases as the network sees them, on three axes, with what is outlined."""
    input:
        shards=shards(["{site}"]),
    output:
        picture=report(
            "results/figures/quality/{site}.png",
            caption="captions/quality.rst",
            category="Cohort",
            labels={"figure": "cases of site {site}"},
        ),
    log:
        "results/logs/reporting/plot_quality-{site}.log",
    benchmark:
        "results/benchmarks/reporting/plot_quality-{site}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        folders=shard_folders,
        regions=STUDY.model_spec["regions"],
        code=code("plot_quality"),
    message:
        "report: cases of site {wildcards.site}"
    script:
        "../workflow_scripts/plot_quality.py"
