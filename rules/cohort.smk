# From a source of cases to shards: fetched where they lie at a hub, checked, split and preprocessed.


localrules:
    fetch_site,


rule fetch_site:
    """Fetch the files that one site needs into the hub client's cache; the receipt says where they are."""
    output:
        receipt="results/downloads/{site}.json",
    log:
        "results/logs/downloads/{site}.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        files=lambda wildcards: block_of_sites([wildcards.site], STUDY.fetch_settings),
        code=code("fetch_site"),
    message:
        "cohort: fetching the files of site {wildcards.site}"
    script:
        "../workflow_scripts/fetch_site.py"


rule index_site:
    """List every case of a site; problems stop the run here, before anything trains."""
    input:
        lambda wildcards: COHORT_FILES[wildcards.site],
        receipts_of_site,
    output:
        index="results/cohort/sites/{site}/index.tsv",
    log:
        "results/logs/cohort/index-{site}.log",
    priority: largest_first
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        source=source_of_site,
        # In place of the table's date: rows of other sites may change.
        rows=lambda wildcards: digest_of_rows(SITE_SOURCES[wildcards.site]),
        code=code("index_site"),
    message:
        "cohort: checking every case of site {wildcards.site}"
    script:
        "../workflow_scripts/index_site.py"


rule split_site:
    """Assign every patient of a site to training, validation or test."""
    input:
        index="results/cohort/sites/{site}/index.tsv",
        kept=STUDY.kept_splits,
    output:
        splits="results/cohort/sites/{site}/splits.tsv",
    log:
        "results/logs/cohort/split-{site}.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        is_external=lambda wildcards: wildcards.site in STUDY.external_sites,
        splits=STUDY.config["cohort"]["splits"],
        code=code("split_site"),
    message:
        "cohort: splitting site {wildcards.site} by patient"
    script:
        "../workflow_scripts/split_site.py"


rule check_cohort:
    """Hold all sites against each other: whoever or whatever is at two of them stops the run here."""
    input:
        indexes=expand("results/cohort/sites/{site}/index.tsv", site=SITES),
        splits=expand("results/cohort/sites/{site}/splits.tsv", site=SITES),
        kept=STUDY.kept_splits,
    output:
        index="results/cohort/index.tsv",
        splits="results/cohort/splits.tsv",
        left_out="results/cohort/left_out.tsv",
    log:
        "results/logs/cohort/check.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        left_out=lambda wildcards: count_left_out(STUDY.source_settings),
        keep_file=STUDY.config["cohort"]["splits"]["keep_file"],
        code=code("check_cohort"),
    message:
        "cohort: holding all sites against each other"
    script:
        "../workflow_scripts/check_cohort.py"


rule build_shard:
    """Preprocess one site's cases into memory-mapped arrays."""
    input:
        index="results/cohort/sites/{site}/index.tsv",
        receipts=receipts_of_site,
        # Nothing is preprocessed of a cohort that is refused; of other sites a shard has nothing.
        checked=ancient("results/cohort/index.tsv"),
    output:
        images="results/cohort/sites/{site}/images.npy",
        masks="results/cohort/sites/{site}/masks.npy",
        table="results/cohort/sites/{site}/shard.tsv",
        outlines="results/cohort/sites/{site}/outlines.tsv",
        frames="results/cohort/sites/{site}/frames.tsv",
    log:
        "results/logs/cohort/shard-{site}.log",
    priority: largest_first
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        source=source_of_site,
        preprocessing=STUDY.preprocessing_settings,
        code=code("build_shard"),
    message:
        "cohort: preprocessing the cases of site {wildcards.site}"
    script:
        "../workflow_scripts/build_shard.py"


rule split_shard:
    """Say in which split each case of a shard is: other splits preprocess nothing."""
    input:
        table="results/cohort/sites/{site}/shard.tsv",
        splits="results/cohort/sites/{site}/splits.tsv",
        # Other splits make no shard: here, too, nothing goes on from a cohort that is refused.
        checked=ancient("results/cohort/index.tsv"),
    output:
        cases="results/cohort/sites/{site}/cases.tsv",
    log:
        "results/logs/cohort/split-shard-{site}.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        code=code("split_shard"),
    message:
        "cohort: noting the splits of the cases of site {wildcards.site}"
    script:
        "../workflow_scripts/split_shard.py"


rule lay_out_scans:
    """Held-out cases in their scans' own voxels: what scores are computed on and pictures show. No training waits."""
    input:
        cases="results/cohort/sites/{site}/cases.tsv",
        receipts=receipts_of_site,
    output:
        images="results/cohort/sites/{site}/scan_images.npy",
        masks="results/cohort/sites/{site}/scan_masks.npy",
        table="results/cohort/sites/{site}/scans.tsv",
    log:
        "results/logs/cohort/scans-{site}.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        source=source_of_site,
        foreground=STUDY.anatomy["foreground"],
        code=code("lay_out_scans"),
    message:
        "cohort: laying out the scans of site {wildcards.site}"
    script:
        "../workflow_scripts/lay_out_scans.py"


# What is in the preprocessed cohort, and what a careful reader should know of it. No training waits for it: what must not
# be, such as a patient in two splits, check_cohort has refused before.


rule find_duplicates:
    """Compare all cases with each other: exact copies and near duplicates, within and across sites."""
    input:
        shards=shards(SITES),
    output:
        duplicates="results/cohort/duplicates.tsv",
    log:
        "results/logs/cohort/duplicates.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        shards=shards_read,
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
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        shards=shards_read,
        cohort=STUDY.source_settings["cohort"],
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
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        shards=shards_read,
        title=STUDY.config["study"]["title"],
        cohort=STUDY.source_settings["cohort"],
        settings=STUDY.config["audit"],
        code=code("write_audit_page"),
    message:
        "cohort: writing results/cohort/audit.html"
    script:
        "../workflow_scripts/write_audit_page.py"
