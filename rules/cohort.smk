# From a source of cases to shards: fetched where they lie at a hub, checked, split and preprocessed.


localrules:
    fetch_site,


rule fetch_site:
    """Fetch the files that one site needs into the hub client's cache; the receipt says where they are."""
    output:
        receipt="results/downloads/{site}.json",
    log:
        "results/logs/downloads/{site}.log",
    benchmark:
        "results/benchmarks/downloads/{site}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        files=STUDY.fetch_settings,
        code=code("fetch_site"),
    message:
        "cohort: fetching the files of site {wildcards.site}"
    script:
        "../workflow_scripts/fetch_site.py"


rule index_cohort:
    """List every case of the study's sites; problems stop the run here, before anything trains."""
    input:
        COHORT_FILES,
        RECEIPTS,
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
        source=SOURCE,
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
        receipts=RECEIPTS,
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
    priority: largest_first
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        source=SOURCE,
        preprocessing=STUDY.preprocessing_settings,
        code=code("build_shard"),
    message:
        "cohort: preprocessing the cases of site {wildcards.site}"
    script:
        "../workflow_scripts/build_shard.py"
