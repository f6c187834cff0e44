# From a source of cases to shards: checked, split and preprocessed.


rule index_cohort:
    """List every case of the study's sites; problems stop the run here, before anything trains."""
    input:
        COHORT_FILES,
    output:
        index="results/cohort/index.tsv",
        left_out="results/cohort/left_out.tsv",
    log:
        "results/logs/cohort/index.log",
    benchmark:
        "results/benchmarks/cohort/index.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        source=STUDY.source_settings,
        code=code("index_cohort"),
    message:
        "cohort: checking every case"
    script:
        "../workflow_scripts/index_cohort.py"


rule split_cohort:
    """Assign every patient to training, validation or test."""
    input:
        index="results/cohort/index.tsv",
        kept=STUDY.kept_splits,
    output:
        splits="results/cohort/splits.tsv",
    log:
        "results/logs/cohort/split.log",
    benchmark:
        "results/benchmarks/cohort/split.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        sites=STUDY.config["cohort"]["sites"],
        splits=STUDY.config["cohort"]["splits"],
        code=code("split_cohort"),
    message:
        "cohort: splitting by patient"
    script:
        "../workflow_scripts/split_cohort.py"


rule build_shard:
    """Preprocess one site's cases into memory-mapped arrays."""
    input:
        index="results/cohort/index.tsv",
        splits="results/cohort/splits.tsv",
    output:
        images="results/cohort/sites/{site}/images.npy",
        masks="results/cohort/sites/{site}/masks.npy",
        cases="results/cohort/sites/{site}/cases.tsv",
        outlines="results/cohort/sites/{site}/outlines.tsv",
        frames="results/cohort/sites/{site}/frames.tsv",
    log:
        "results/logs/cohort/shard-{site}.log",
    benchmark:
        "results/benchmarks/cohort/shard-{site}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        source=STUDY.source_settings,
        preprocessing=STUDY.config["preprocessing"],
        code=code("build_shard"),
    message:
        "cohort: preprocessing the cases of site {wildcards.site}"
    script:
        "../workflow_scripts/build_shard.py"


rule audit_cohort:
    """Count and check the preprocessed cohort: cases by site, class and split, shapes, spacings, problems."""
    input:
        shards=shards(SITES),
        outlines=expand("results/cohort/sites/{site}/outlines.tsv", site=SITES),
        left_out="results/cohort/left_out.tsv",
    output:
        audit="results/cohort/audit.json",
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
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        folders=shard_folders(SITES),
        cohort=STUDY.config["cohort"],
        code=code("audit_cohort"),
    message:
        "cohort: auditing"
    script:
        "../workflow_scripts/audit_cohort.py"
