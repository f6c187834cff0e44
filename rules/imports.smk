# Models made elsewhere: snakemake import_model --config checkpoint=PATH


localrules:
    fetch_checkpoint,


rule fetch_checkpoint:
    """Fetch a checkpoint made elsewhere, where the config gives an address."""
    output:
        checkpoint="results/models/imported/{imported}/checkpoint.pth",
    log:
        "results/logs/requests/imports/{imported}/fetch.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        fetch=lambda wildcards: STUDY.requests.imports[wildcards.imported].fetch_settings,
        code=code("fetch_checkpoint"),
    message:
        "{wildcards.imported}: fetching the checkpoint"
    script:
        "../workflow_scripts/fetch_checkpoint.py"


rule import_checkpoint:
    """Make a model file of a checkpoint made elsewhere, with the study's own network and preprocessing."""
    input:
        checkpoint=checkpoint_of_import,
    output:
        model="results/models/imported/{imported}.pth",
    log:
        "results/logs/requests/imports/{imported}/import.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        spec=STUDY.model_spec(STUDY.own_recipe),
        source=lambda wildcards: STUDY.requests.imports[wildcards.imported].origin,
        sha256=lambda wildcards: STUDY.requests.imports[wildcards.imported].sha256,
        code=code("import_checkpoint"),
    message:
        "{wildcards.imported}: making results/models/imported/{wildcards.imported}.pth of the checkpoint"
    script:
        "../workflow_scripts/import_checkpoint.py"


rule import_model:
    """A model made elsewhere: --config checkpoint=PATH, or hf://... or https://..."""
    input:
        imported_models,
