"""The figures of the report; each is a row here, its function, its row in ``rules/figures.smk`` and its caption."""

from dataclasses import dataclass

from fedpedbrain.base.choices import Choices


@dataclass(frozen=True)
class FigureFacts:
    """What is known of a figure.

    Attributes
    ----------
    implementation : function that reads tables and draws them as a PNG at ``figure_path``
    """

    implementation: str


FIGURES: Choices[FigureFacts] = Choices(
    {
        "cohort": FigureFacts("fedpedbrain.reporting.figures.count_figures:plot_cohort_files"),
        "convergence": FigureFacts("fedpedbrain.reporting.figures.convergence_figure:plot_convergence_files"),
        "comparison": FigureFacts("fedpedbrain.reporting.figures.comparison_figures:plot_comparison_files"),
        "confusion": FigureFacts("fedpedbrain.reporting.figures.count_figures:plot_confusion_files"),
        "cross_sites": FigureFacts("fedpedbrain.reporting.figures.site_figures:plot_cross_sites_files"),
        "reliability": FigureFacts("fedpedbrain.reporting.figures.agreement_figures:plot_reliability_files"),
        "volumes": FigureFacts("fedpedbrain.reporting.figures.agreement_figures:plot_volumes_files"),
        "classes": FigureFacts("fedpedbrain.reporting.figures.comparison_figures:plot_classes_files"),
        "updates": FigureFacts("fedpedbrain.reporting.figures.update_figures:plot_updates_files"),
        "timeline": FigureFacts("fedpedbrain.reporting.figures.timeline_figure:plot_timeline_files"),
    }
)
