# Rounds as rules: every arm goes through the same.


localrules:
    fetch_pretrained,


rule fetch_pretrained:
    """Fetch the weights that arms of one network start from, where the config gives an address."""
    output:
        weights="results/models/initial/{network}/pretrained.pth",
    log:
        "results/logs/models/initial/{network}/pretrained.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        pretrained=lambda wildcards: STUDY.starts[wildcards.network].pretrained,
        code=code("fetch_pretrained"),
    message:
        "{wildcards.network}: fetching the weights to start from"
    script:
        "../workflow_scripts/fetch_pretrained.py"


rule initialize_model:
    """Make the weights that all arms of one network and seed start from."""
    input:
        pretrained=pretrained_weights,
    output:
        model="results/models/initial/{network}/seed-{seed}.pth",
    log:
        "results/logs/models/initial/{network}/seed-{seed}.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        spec=lambda wildcards: STUDY.model_spec(STUDY.starts[wildcards.network]),
        pretrained=lambda wildcards: STUDY.starts[wildcards.network].pretrained,
        model_seed=lambda wildcards: STUDY.model_seed(int(wildcards.seed)),
        code=code("initialize_model"),
    message:
        "{wildcards.network}, seed {wildcards.seed}: making the start of its arms"
    script:
        "../workflow_scripts/initialize_model.py"


rule make_keys:
    """Make a site's keys for one secure sum, and others whenever what it sends may have changed: masks serve once."""
    input:
        start=start_of_site,
        state=state_of_site,
        server=broadcast_state,
        shards=shards_of_participant,
    output:
        secret=temp("results/models/{arm}/seed-{seed}/round-{round}/keys/{site}.secret"),
        public=temp("results/models/{arm}/seed-{seed}/round-{round}/keys/{site}.public"),
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/keys-{site}.log",
    priority: priorities.UNBLOCKS_TRAINING
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        plan=plan_of_site,
        training_code=code("train_site"),
        code=code("make_keys"),
    message:
        f"{{wildcards.arm}}, seed {{wildcards.seed}}: round {{wildcards.round}} of {LAST_ROUND}, making keys of {{wildcards.site}}"
    script:
        "../workflow_scripts/make_keys.py"


rule train_site:
    """Train one site for one round: from the round's start to the update that it sends."""
    input:
        start=start_of_site,
        state=state_of_site,
        server=broadcast_state,
        secret_key=secret_key_of_site,
        public_keys=public_keys_of_round,
        shards=shards_of_participant,
    output:
        site_update=temp("results/models/{arm}/seed-{seed}/round-{round}/updates/{site}.pth"),
        state="results/models/{arm}/seed-{seed}/round-{round}/states/{site}.pth",
        metrics=temp("results/models/{arm}/seed-{seed}/round-{round}/metrics/{site}.json"),
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/train-{site}.log",
    wildcard_constraints:
        arm=WITH_KEPT_STATES,
    priority: training_first
    retries: 2 if STUDY.allows_missing_sites else None
    conda:
        "../envs/study.yaml"
    threads: CORES_OF_TRAINING
    resources:
        gpu=1,
        mem_mb=4000,
        # Functions only where they decide something: they are asked for every job that is planned.
        attempt=(lambda wildcards, attempt: attempt) if STUDY.allows_missing_sites else 1,
        # The job's own threads are no more than the run has cores. Another number gives other bytes, but as a resource
        # it trains nothing again.
        num_threads=STUDY.config["training"]["threads"],
        # No resource makes a round stale: leave for later failures trains nothing again.
        may_be_missing=may_be_missing if STUDY.allows_missing_sites else 0,
    params:
        shards=shards_read,
        plan=plan_of_site,
        code=code("train_site"),
    message:
        f"{{wildcards.arm}}, seed {{wildcards.seed}}: round {{wildcards.round}} of {LAST_ROUND}, training {{wildcards.site}}"
    script:
        "../workflow_scripts/train_site.py"


rule aggregate_round:
    """Check and average the updates of a round."""
    input:
        start=start_of_round,
        updates=partial(of_round, "updates/{site}.pth"),
        metrics=partial(of_round, "metrics/{site}.json"),
        state=server_state,
    output:
        model="results/models/{arm}/seed-{seed}/round-{round}/global.pth",
        state="results/models/{arm}/seed-{seed}/round-{round}/server.pth",
        metrics="results/models/{arm}/seed-{seed}/round-{round}/metrics.json",
        lineage="results/models/{arm}/seed-{seed}/round-{round}/lineage.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/aggregate.log",
    wildcard_constraints:
        arm=WITH_KEPT_MODELS,
    priority: priorities.UNBLOCKS_TRAINING
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        # Resources, as which they make no round stale.
        minimum_sites=lambda wildcards: STUDY.arms[wildcards.arm].minimum_sites,
        allows_missing_sites=may_be_missing if STUDY.allows_missing_sites else 0,
    params:
        sites=sites_of_round,
        plan=lambda wildcards: STUDY.round_plan(wildcards.arm, int(wildcards.round)),
        code=code("aggregate_round"),
    message:
        f"{{wildcards.arm}}, seed {{wildcards.seed}}: round {{wildcards.round}} of {LAST_ROUND}, averaging"
    script:
        "../workflow_scripts/aggregate_round.py"


rule validate_site:
    """Score the models of a block of rounds on one site's validation patients; runs beside later training."""
    input:
        models=models_of_block,
        states=states_of_block,
        shards=lambda wildcards: shard_tables([wildcards.site]),
    output:
        validation="results/models/{arm}/seed-{seed}/validation/{site}/from-{round}.json",
    log:
        "results/logs/models/{arm}/seed-{seed}/validation/{site}/from-{round}.log",
    priority: validation_last
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
    params:
        shards=shards_read,
        state_rounds=state_rounds_of_block,
        settings=lambda wildcards: STUDY.validation_settings(wildcards.arm),
        code=code("validate_site"),
    message:
        "{wildcards.arm}, seed {wildcards.seed}: rounds from {wildcards.round} on, validating on {wildcards.site}"
    script:
        "../workflow_scripts/validate_site.py"


# Rounds whose models and states do not stay: the same rules, but for what of their outputs is temporary.


use rule train_site as train_passing_site with:
    output:
        site_update=temp("results/models/{arm}/seed-{seed}/round-{round}/updates/{site}.pth"),
        state=temp("results/models/{arm}/seed-{seed}/round-{round}/states/{site}.pth"),
        metrics=temp("results/models/{arm}/seed-{seed}/round-{round}/metrics/{site}.json"),
    wildcard_constraints:
        arm=WITH_PASSING_STATES,


use rule aggregate_round as aggregate_passing_round with:
    output:
        model=temp("results/models/{arm}/seed-{seed}/round-{round}/global.pth"),
        state=temp("results/models/{arm}/seed-{seed}/round-{round}/server.pth"),
        metrics="results/models/{arm}/seed-{seed}/round-{round}/metrics.json",
        lineage="results/models/{arm}/seed-{seed}/round-{round}/lineage.json",
    wildcard_constraints:
        arm=WITH_PASSING_MODELS,


# What single updates look like, before they are deleted. Nothing waits for it but the report. inspect_updates has no
# fingerprint of its code: an edit would want updates that are gone, and with them all training.


rule inspect_updates:
    """Compare the updates of a round: how long each is, and whether it points where the others do."""
    input:
        start=start_of_round,
        updates=partial(of_round, "updates/{site}.pth"),
        model="results/models/{arm}/seed-{seed}/round-{round}/global.pth",
    output:
        table="results/models/{arm}/seed-{seed}/round-{round}/inspection.tsv",
    log:
        "results/logs/models/{arm}/seed-{seed}/round-{round}/inspect.log",
    # Before any training: the round's updates stay on the disk until it has run.
    priority: priorities.FREES_DISK
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        sites=sites_of_round,
        exchange=lambda wildcards: STUDY.arms[wildcards.arm].block["exchange"],
        is_chain=lambda wildcards: STUDY.arms[wildcards.arm].is_cyclic,
    message:
        f"{{wildcards.arm}}, seed {{wildcards.seed}}: round {{wildcards.round}} of {LAST_ROUND}, comparing the updates"
    script:
        "../workflow_scripts/inspect_updates.py"
