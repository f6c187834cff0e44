# Figures, each from one kind of table, registered for Snakemake's own report too.
DPI = {"dpi": STUDY.config["reporting"]["figure_dpi"]}
STYLE = {"style": STUDY.figure_style}
FINDING = {"finding": STUDY.anatomy["finding"]}
SHARED_ARMS = {"arms": STUDY.shared_arms}

# Figure to its category and title in Snakemake's report, what it is drawn from, and its settings: arguments of the
# function that FIGURES names.
FIGURE_ROWS = {
    # Cases by site, class and split.
    "cohort": (
        "Cohort",
        "cases by site",
        {"audit_path": "results/cohort/audit.json"},
        DPI,
    ),
    # Validation scores of every arm by round.
    "convergence": (
        "Training",
        "convergence of all arms",
        {"history_paths": every_arm("results/models/{arm}/seed-{seed}/history.tsv")},
        STYLE | FINDING | {"exchanging": STUDY.exchanging_arms},
    ),
    # Scores of every arm on the held-out patients of every site.
    "comparison": (
        "Results",
        "arms on the same held-out patients",
        {"summary_path": "results/tables/summary.tsv"},
        STYLE | FINDING,
    ),
    "confusion": (
        "Results",
        "confusion matrices",
        {"confusion_path": "results/tables/confusion.tsv"},
        DPI | SHARED_ARMS | {"colour_map": STUDY.config["reporting"]["confusion_colour_map"]},
    ),
    # What was trained where, and how well it does there.
    "cross_sites": (
        "Results",
        "every arm at every site",
        {"cross_sites_path": "results/tables/cross_sites.tsv"},
        DPI | FINDING | {"arms": CANDIDATES},
    ),
    # How often the most probable class is right, by its probability.
    "reliability": (
        "Results",
        "reliability of the probabilities",
        {"reliability_path": "results/tables/reliability.tsv"},
        STYLE | SHARED_ARMS,
    ),
    # Predicted less true volume of every held-out case over their mean (Bland and Altman).
    "volumes": (
        "Results",
        "predicted and true volumes",
        {"scores_paths": every_candidate("results/scores/{candidate}/seed-{seed}.tsv")},
        STYLE | SHARED_ARMS,
    ),
    "classes": (
        "Results",
        "each class against the rest",
        {"summary_path": "results/tables/summary.tsv"},
        STYLE | SHARED_ARMS | {"classes": STUDY.config["cohort"]["classes"]},
    ),
    # Length and direction of every update.
    "updates": (
        "Training",
        "updates by site and round",
        {"inspection_paths": inspections},
        DPI | {"arms": STUDY.inspected_arms},
    ),
    # One lane per core and GPU with its jobs, the critical path, and how much was busy.
    "timeline": (
        "Training",
        "when jobs ran",
        {
            "jobs_path": "results/timeline/jobs.tsv",
            "summary_path": "results/timeline/summary.json",
        },
        STYLE,
    ),
}


for figure, (category, title, inputs, settings) in FIGURE_ROWS.items():

    rule:
        """One figure of the report, by its name in FIGURES."""
        name:
            f"plot_{figure}"
        input:
            **inputs,
        output:
            figure=report(
                f"results/figures/{figure}.png",
                caption=f"captions/{figure}.rst",
                category=category,
                labels={"figure": title},
            ),
        log:
            f"results/logs/reporting/plot_{figure}.log",
        conda:
            "../envs/study.yaml"
        threads: 1
        resources:
            mem_mb=1000,
        params:
            figure=figure,
            settings=settings,
            code=code("plot_figure", ("FIGURES", figure)),
        message:
            f"report: {title}"
        script:
            "../workflow_scripts/plot_figure.py"


rule plot_quality:
    """One site's cases as the network sees them, on three axes, with what is outlined."""
    input:
        shards=shards(["{site}"]),
    output:
        picture=report(
            "results/figures/quality/{site}.png",
            caption="captions/quality.rst",
            category="Cohort",
            labels={"figure": "cases of site {site}"},
        ),
    log:
        "results/logs/reporting/plot_quality-{site}.log",
    conda:
        "../envs/study.yaml"
    threads: 1
    resources:
        mem_mb=1000,
    params:
        shards=shards_read,
        regions=STUDY.regions,
        code=code("plot_quality"),
    message:
        "report: cases of site {wildcards.site}"
    script:
        "../workflow_scripts/plot_quality.py"
