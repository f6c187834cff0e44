# Files of a published cohort, from its hub.


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
