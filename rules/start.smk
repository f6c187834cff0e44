# The weights that all arms of a seed start from.


localrules:
    fetch_pretrained,


rule fetch_pretrained:
    """Fetch the weights that all arms start from, where the config gives an address."""
    output:
        weights="results/models/pretrained.pth",
    log:
        "results/logs/models/pretrained.log",
    benchmark:
        "results/benchmarks/models/pretrained.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        pretrained=STUDY.pretrained_settings,
        code=code("fetch_pretrained"),
    message:
        "fetching the weights to start from"
    script:
        "../workflow_scripts/fetch_pretrained.py"


rule initialize_model:
    """Make the weights that all arms of a seed start from."""
    input:
        pretrained=STUDY.pretrained_path or rules.fetch_pretrained.output if STUDY.is_pretrained else [],
    output:
        model="results/models/initial/seed-{seed}.pth",
    log:
        "results/logs/models/initial/seed-{seed}.log",
    benchmark:
        "results/benchmarks/models/initial/seed-{seed}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        spec=STUDY.model_spec,
        pretrained=STUDY.pretrained_settings,
        model_seed=lambda wildcards: STUDY.model_seed(int(wildcards.seed)),
        code=code("initialize_model"),
    message:
        "seed {wildcards.seed}: making the start of all arms"
    script:
        "../workflow_scripts/initialize_model.py"
