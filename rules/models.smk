# The best round of an arm, or of a phase of it, and with it the models that sites have for themselves.


rule select_model:
    """Choose the best round of an arm on its own validation patients."""
    input:
        models=partial(of_kept_rounds, "global.pth"),
        validations=validations_of_arm,
        metrics=partial(of_rounds, "metrics.json"),
    output:
        best="results/models/{arm}/seed-{seed}/best.pth",
        history="results/models/{arm}/seed-{seed}/history.tsv",
        selection="results/models/{arm}/seed-{seed}/selection.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/select.log",
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


# The best round of the phase that ended before a round, which then starts from it.
use rule select_model as select_phase_start with:
    input:
        models=partial(of_phase_before, "global.pth"),
        validations=validations_of_phase_before,
        metrics=metrics_of_phase_before,
    output:
        best="results/models/{arm}/seed-{seed}/round-{round}/best_before.pth",
        history="results/models/{arm}/seed-{seed}/round-{round}/history_before.tsv",
        selection="results/models/{arm}/seed-{seed}/round-{round}/selection_before.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/select.log",
    priority: priorities.UNBLOCKS_TRAINING
    message:
        "{wildcards.arm}, seed {wildcards.seed}: choosing the model that round {wildcards.round} starts from"


rule personalize_model:
    """Put a site's own weights of the best round over the arm's best model."""
    input:
        model="results/models/{arm}/seed-{seed}/best.pth",
        states=states_of_site,
    output:
        model="results/models/{arm}/seed-{seed}/personal/{site}.pth",
    log:
        "results/logs/models/{arm}/seed-{seed}/personalize-{site}.log",
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
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        shards=shards_read,
        channels=STUDY.config["cohort"]["channels"],
        foreground=STUDY.anatomy["foreground"],
        code=code("summarize_intensities"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: describing the intensities of its training cases"
    script:
        "../workflow_scripts/summarize_intensities.py"


rule choose_filters:
    """Choose the component filter of each region on validation patients: an arm's own, for models made elsewhere all."""
    input:
        models=models_of_candidate,
        personal=personal_models_of_candidate,
        shards=lambda wildcards: shards(STUDY.validation_sites(wildcards.candidate)),
    output:
        filters="results/models/{candidate}/seed-{seed}/filters.json",
    log:
        "results/logs/models/{candidate}/seed-{seed}/choose_filters.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
    params:
        shards=shards_read,
        personal_sites=personal_sites_of_candidate,
        tried=STUDY.prediction.tried_filters,
        decision=STUDY.prediction.decision,
        expected=STUDY.scored_spec,
        plan=prediction_plan_of_candidate,
        code=code("choose_filters"),
    message:
        "{wildcards.candidate}, seed {wildcards.seed}: choosing component filters"
    script:
        "../workflow_scripts/choose_filters.py"


# The history of every model: recorded once its arm is done, and checked against the disk whenever one asks.


rule record_lineage:
    """Record every file of an arm, from the common start to the best model, with its SHA-256 and its lineage."""
    input:
        initial=initial_model,
        # What jobs noted of every round, and of its files those that stay.
        rounds=partial(of_rounds, "lineage.json"),
        metrics=partial(of_rounds, "metrics.json"),
        models=partial(of_kept_rounds, "global.pth"),
        servers=partial(of_kept_rounds, "server.pth"),
        states=kept_states,
        beside=beside_models,
        best="results/models/{arm}/seed-{seed}/best.pth",
    output:
        lineage="results/models/{arm}/seed-{seed}/lineage.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/record_lineage.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        kept_rounds=lambda wildcards: KEPT_ROUNDS[wildcards.arm],
        rounds_of_kept_states=lambda wildcards: ROUNDS_OF_KEPT_STATES[wildcards.arm],
        code=code("record_lineage"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: recording the history of its models"
    script:
        "../workflow_scripts/record_lineage.py"


# Without input and output: it runs whenever it is named, on the files as they are. With an input a changed file would first
# be made anew, and its damage would go unseen; with an output it would be up to date.
rule verify_lineage:
    """Check every model and site state on disk against the recorded histories; makes nothing anew."""
    log:
        "results/logs/requests/verify_lineage.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        arms=lambda wildcards: [
            {
                "arm": model.arm,
                "seed": model.seed,
                "initial_path": initial_model(model),
                "round_paths": of_rounds("lineage.json", model),
                "metrics_paths": of_rounds("metrics.json", model),
                "best_path": f"results/models/{model.arm}/seed-{model.seed}/best.pth",
                "lineage_path": f"results/models/{model.arm}/seed-{model.seed}/lineage.json",
                "beside_paths": beside_models(model),
                "kept_rounds": KEPT_ROUNDS[model.arm],
                "rounds_of_kept_states": ROUNDS_OF_KEPT_STATES[model.arm],
            }
            for model in MODELS
        ],
        code=code("verify_lineage"),
    message:
        "checking every model against its recorded history"
    script:
        "../workflow_scripts/verify_lineage.py"


# What an arm spends: privacy, where it has noise, and time, memory and energy.


rule account_privacy:
    """Compute epsilon of an arm's noise, over all of its rounds."""
    input:
        metrics=partial(of_rounds, "metrics.json"),
    output:
        privacy="results/models/{arm}/seed-{seed}/privacy.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/account_privacy.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        privacy=lambda wildcards: STUDY.arms[wildcards.arm].block["privacy"],
        batch_size=lambda wildcards: STUDY.recipes[wildcards.arm].training["batch_size"],
        code=code("account_privacy"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: accounting for its privacy"
    script:
        "../workflow_scripts/account_privacy.py"


rule measure_cost:
    """Add up what the jobs of an arm took of time, memory and GPU."""
    input:
        # Not their logs, which are read beside them: for one that is gone, nothing trains again.
        averaging=partial(of_rounds, "lineage.json"),
        validation=validations_of_arm,
        prediction=["results/predictions/{arm}/seed-{seed}/masks.npy"],
    output:
        cost="results/models/{arm}/seed-{seed}/cost.tsv",
    log:
        "results/logs/models/{arm}/seed-{seed}/cost.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        logs=logs_of_arm,
        is_chain=lambda wildcards: STUDY.arms[wildcards.arm].is_cyclic,
        code=code("measure_cost"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: adding up its cost"
    script:
        "../workflow_scripts/measure_cost.py"
