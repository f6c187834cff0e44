# Rounds as rules: every arm goes through the same five, and the exchanged .pth files are the job graph.


rule train_site:
    """Train one site for one round: from the round's start to the update that it sends."""
    input:
        start=start_of_round,
        state=state_of_round_before,
        shards=shards_of_participant,
        audit=ancient("results/cohort/audit.json"),
    output:
        site_update=temp("results/models/{arm}/seed-{seed}/round-{round}/updates/{site}.pth"),
        state="results/models/{arm}/seed-{seed}/round-{round}/states/{site}.pth",
        metrics="results/models/{arm}/seed-{seed}/round-{round}/metrics/{site}.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/train-{site}.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/round-{round}/train-{site}.tsv"
    priority: length_of_chain
    conda:
        "../envs/study.yaml"
    threads: STUDY.config["training"]["threads"]
    resources:
        gpu=1,
        mem_mb=4000,
    params:
        folders=lambda wildcards: shard_folders(STUDY.arms[wildcards.arm].shards_of[wildcards.site]),
        training=STUDY.training_settings,
        keep_optimizer_state=lambda wildcards: STUDY.arms[wildcards.arm].keep_optimizer_state,
        digest=lambda wildcards: STUDY.settings_digest(wildcards.arm),
        code=code("train_site"),
    message:
        f"{{wildcards.arm}}, seed {{wildcards.seed}}: round {{wildcards.round}} of {LAST_ROUND}, training {{wildcards.site}}"
    script:
        "../workflow_scripts/train_site.py"


rule aggregate_round:
    """Check and average the updates of a round."""
    input:
        start=start_of_round,
        updates=updates_of_round,
    output:
        model="results/models/{arm}/seed-{seed}/round-{round}/global.pth",
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/aggregate.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/round-{round}/aggregate.tsv"
    priority: length_of_chain
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        sites=lambda wildcards: sorted(STUDY.arms[wildcards.arm].shards_of),
        weighting=lambda wildcards: STUDY.arms[wildcards.arm].weighting,
        digest=lambda wildcards: STUDY.settings_digest(wildcards.arm),
        code=code("aggregate_round"),
    message:
        f"{{wildcards.arm}}, seed {{wildcards.seed}}: round {{wildcards.round}} of {LAST_ROUND}, averaging"
    script:
        "../workflow_scripts/aggregate_round.py"


rule validate_round:
    """Score a round's global model on the validation patients; runs beside the next round's training."""
    input:
        model="results/models/{arm}/seed-{seed}/round-{round}/global.pth",
        shards=shards(STUDY.training_sites),
    output:
        validation="results/models/{arm}/seed-{seed}/round-{round}/validation.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/validate.log",
    benchmark:
        "results/benchmarks/models/{arm}/seed-{seed}/round-{round}/validate.tsv"
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
    params:
        folders=shard_folders(STUDY.training_sites),
        decision=STUDY.decision_settings,
        code=code("validate_round"),
    message:
        f"{{wildcards.arm}}, seed {{wildcards.seed}}: round {{wildcards.round}} of {LAST_ROUND}, validating"
    script:
        "../workflow_scripts/validate_round.py"


rule select_model:
    """Choose the best round of an arm on its own validation patients."""
    input:
        models=partial(rounds_of, "results/models/{arm}/seed-{seed}/round-{round}/global.pth"),
        validations=partial(rounds_of, "results/models/{arm}/seed-{seed}/round-{round}/validation.json"),
        metrics=metrics_of_arm,
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
