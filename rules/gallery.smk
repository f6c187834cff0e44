# The case gallery: held-out cases chosen by a rule, as videos and with what lies behind the models' decisions.


rule choose_cases:
    """Choose by rule which held-out cases the gallery shows: once, for videos and explanations."""
    input:
        scores=of_gallery_arms("results/scores/{candidate}/seed-{seed}.tsv")[0],
        shards=held_out_cases(STUDY.geometries[0]),
    output:
        choice="results/gallery/cases.tsv",
    log:
        "results/logs/reporting/choose_cases.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        shards=shards_read,
        classes=STUDY.config["cohort"]["classes"],
        num_cases=STUDY.config["reporting"]["video"]["num_cases"],
        geometry=STUDY.geometries[0],
        code=code("choose_cases", STUDY.geometry_choices[0]),
    message:
        "report: choosing cases"
    script:
        "../workflow_scripts/choose_cases.py"


rule explain_cases:
    """Region probabilities of the chosen cases, and an arm's evidence for their class."""
    input:
        models=models_of_candidate,
        personal=personal_models_of_candidate,
        choice="results/gallery/cases.tsv",
        shards=shards(SITES),
        frames=frames(SITES),
    output:
        explanations="results/gallery/{candidate}/seed-{seed}.npz",
    log:
        "results/logs/evaluation/{candidate}/seed-{seed}/explain.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        gpu=1,
        mem_mb=4000,
    params:
        shards=shards_read,
        personal_sites=personal_sites_of_candidate,
        plan=prediction_plan_of_candidate,
        geometry=STUDY.geometries[0],
        code=code("explain_cases", STUDY.geometry_choices[0]),
    message:
        "{wildcards.candidate}, seed {wildcards.seed}: explaining the chosen cases"
    script:
        "../workflow_scripts/explain_cases.py"


rule plot_explanations:
    """A picture a chosen case: the image, region probabilities and where the class was seen, a row an arm."""
    input:
        choice="results/gallery/cases.tsv",
        explanations=of_gallery_arms("results/gallery/{candidate}/seed-{seed}.npz"),
        scores=of_gallery_arms("results/scores/{candidate}/seed-{seed}.tsv"),
        shards=held_out_cases(STUDY.geometries[0]),
    output:
        pictures=directory("results/figures/explanations"),
    log:
        "results/logs/reporting/plot_explanations.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        shards=shards_read,
        arms=GALLERY_ARMS,
        regions=STUDY.regions,
        dpi=STUDY.config["reporting"]["figure_dpi"],
        geometry=STUDY.geometries[0],
        code=code("plot_explanations", STUDY.geometry_choices[0]),
    message:
        "report: explanations"
    script:
        "../workflow_scripts/plot_explanations.py"


rule render_videos:
    """The chosen cases slice by slice: image, truth and arms side by side."""
    input:
        choice="results/gallery/cases.tsv",
        masks=of_gallery_arms(predicted_masks(STUDY.geometries[0])),
        scores=of_gallery_arms("results/scores/{candidate}/seed-{seed}.tsv"),
        shards=held_out_cases(STUDY.geometries[0]),
    output:
        videos=directory("results/videos"),
    log:
        "results/logs/reporting/render_videos.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        shards=shards_read,
        style=STUDY.video_style,
        code=code("render_videos", STUDY.geometry_choices[0]),
    message:
        "report: videos"
    script:
        "../workflow_scripts/render_videos.py"
