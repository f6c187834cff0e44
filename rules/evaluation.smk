# Every candidate on the same held-out patients, and the tables that compare them.


rule predict_cases:
    """Predict every held-out patient with a candidate: an arm's best model, or one made elsewhere."""
    input:
        models=models_of_candidate,
        personal=personal_models_of_candidate,
        filters=filters_of_candidate,
        shards=shards(SITES),
        frames=frames(SITES),
    output:
        masks=[predicted_masks(geometry) for geometry in STUDY.geometries],
        probabilities="results/predictions/{candidate}/seed-{seed}/probabilities.tsv",
    log:
        "results/logs/evaluation/{candidate}/seed-{seed}/predict.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
    params:
        shards=shards_read,
        personal_sites=personal_sites_of_candidate,
        decision=STUDY.prediction.decision,
        plan=prediction_plan_of_candidate,
        component_filter=STUDY.prediction.tried_filters[0],
        expected=STUDY.scored_spec,
        geometries=STUDY.geometries,
        code=code("predict_cases", *STUDY.geometry_choices),
    message:
        "{wildcards.candidate}, seed {wildcards.seed}: predicting the held-out patients"
    script:
        "../workflow_scripts/predict_cases.py"


rule restore_predictions:
    """On request: a candidate's predictions as one NIfTI mask per held-out case, in the scans' own geometry."""
    input:
        masks=predicted_masks(STUDY.geometries[0]),
        shards=shards(SITES),
        frames=frames(SITES),
    output:
        folder=directory("results/predictions/{candidate}/seed-{seed}/scans"),
    log:
        "results/logs/requests/{candidate}/seed-{seed}/restore.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        shards=shards_read,
        geometry=STUDY.geometries[0],
        num_regions=len(STUDY.regions),
        code=code("restore_predictions", STUDY.geometry_choices[0]),
    message:
        "{wildcards.candidate}, seed {wildcards.seed}: laying the predictions back into the scans"
    script:
        "../workflow_scripts/restore_predictions.py"


rule score_predictions:
    """Score a candidate's predictions, one row per case, target and metric."""
    input:
        masks=[predicted_masks(geometry) for geometry in STUDY.geometries],
        probabilities="results/predictions/{candidate}/seed-{seed}/probabilities.tsv",
        shards=held_out_cases(*STUDY.geometries),
    output:
        scores="results/scores/{candidate}/seed-{seed}.tsv",
    log:
        "results/logs/evaluation/{candidate}/seed-{seed}/score.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        shards=shards_read,
        regions=STUDY.regions,
        settings=STUDY.scoring_settings,
        geometries=STUDY.geometries,
        code=code("score_predictions", *STUDY.geometry_choices),
    message:
        "{wildcards.candidate}, seed {wildcards.seed}: scoring"
    script:
        "../workflow_scripts/score_predictions.py"


rule compare_arms:
    """Compare the arms: means, paired differences and their tests, confusions, reliability, sites."""
    input:
        scores=every_candidate("results/scores/{candidate}/seed-{seed}.tsv"),
    output:
        summary=report(
            "results/tables/summary.tsv",
            caption="captions/summary_table.rst",
            category="Results",
            labels={"table": "scores by arm and site"},
        ),
        differences=report(
            "results/tables/differences.tsv",
            caption="captions/differences_table.rst",
            category="Results",
            labels={"table": "paired differences to the reference arm"},
        ),
        confusion=report(
            "results/tables/confusion.tsv",
            caption="captions/confusion_table.rst",
            category="Results",
            labels={"table": "confusion counts"},
        ),
        models="results/tables/models.tsv",
        tests="results/tables/tests.tsv",
        reliability="results/tables/reliability.tsv",
        sites="results/tables/sites.tsv",
        gains="results/tables/gains.tsv",
        cross_sites="results/tables/cross_sites.tsv",
    log:
        "results/logs/evaluation/compare.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        arms=STUDY.candidate_sites,
        sites=SITES,
        classes=STUDY.config["cohort"]["classes"],
        normal_class=STUDY.config["cohort"]["normal_class"],
        evaluation=STUDY.comparison_settings,
        code=code("compare_arms"),
    message:
        "comparing the arms"
    script:
        "../workflow_scripts/compare_arms.py"
