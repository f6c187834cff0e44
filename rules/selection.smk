# The best round of an arm, or of a phase of it, and with it the models that sites have for themselves.


rule select_model:
    """Choose the best round of an arm on its own validation patients."""
    input:
        models=partial(of_kept_rounds, "global.pth"),
        validations=partial(of_kept_rounds, "validation.json"),
        metrics=partial(of_rounds, "metrics.json"),
    output:
        best="results/models/{arm}/seed-{seed}/best.pth",
        history="results/models/{arm}/seed-{seed}/history.tsv",
        selection="results/models/{arm}/seed-{seed}/selection.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/select.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/select.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        own_sites=lambda wildcards: STUDY.arms[wildcards.arm].sites,
        code=code("select_model"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: choosing the best round"
    script:
        "../workflow_scripts/select_model.py"


rule select_phase_start:
    """Choose the best round of the phase that ended before a round, which then starts from it."""
    input:
        models=partial(of_phase_before, "global.pth"),
        validations=partial(of_phase_before, "validation.json"),
        metrics=metrics_of_phase_before,
    output:
        best="results/models/{arm}/seed-{seed}/round-{round}/best_before.pth",
        history="results/models/{arm}/seed-{seed}/round-{round}/history_before.tsv",
        selection="results/models/{arm}/seed-{seed}/round-{round}/selection_before.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/select.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/round-{round}/select.tsv"
    priority: priorities.UNBLOCKS_TRAINING
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        own_sites=lambda wildcards: STUDY.arms[wildcards.arm].sites,
        code=code("select_phase_start"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: choosing the model that round {wildcards.round} starts from"
    script:
        "../workflow_scripts/select_phase_start.py"


rule personalize_model:
    """Put a site's own weights of the best round over the arm's best model."""
    input:
        model="results/models/{arm}/seed-{seed}/best.pth",
        states=states_of_site,
    output:
        model="results/models/{arm}/seed-{seed}/personal/{site}.pth",
    log:
        "results/logs/models/{arm}/seed-{seed}/personalize-{site}.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/personalize-{site}.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        rounds=rounds_of_site,
        phase_starts=lambda wildcards: [phase.first_round for phase in STUDY.arms[wildcards.arm].phases],
        code=code("personalize_model"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: making the model of {wildcards.site}"
    script:
        "../workflow_scripts/personalize_model.py"


rule summarize_intensities:
    """Describe what an arm's training images look like: a new scan is held against it."""
    input:
        shards=lambda wildcards: shards(STUDY.arms[wildcards.arm].sites),
    output:
        intensities="results/models/{arm}/seed-{seed}/intensities.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/intensities.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/intensities.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        folders=shard_folders,
        channels=STUDY.model_spec["channels"],
        code=code("summarize_intensities"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: describing the intensities of its training cases"
    script:
        "../workflow_scripts/summarize_intensities.py"
