"""The sources that a cohort can come from; a source is its own package, one row here and a test."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedpedbrain.base.choices import Choices, Option


@dataclass(frozen=True)
class SourceFacts:
    """What the job graph has to know of a source.

    Attributes
    ----------
    implementation : function that opens the source from the settings of a site, as ``data.sources.source.Source``
    files : its ``SourceFiles``, which need the standard library alone: what it reads, and how many cases there are
    options : its block of the config, where the schema has none under its name
    channels_key : key of its block that has one entry per channel; "" where there is one channel
    reads_any_form : its files may have any of the forms that ``formats`` speaks of
    has_outlines : it can hold masks
    by_site : keys of its block whose entries each speak of one site
    """

    implementation: str
    files: str
    options: Mapping[str, Option] = field(default_factory=dict)
    channels_key: str = ""
    reads_any_form: bool = False
    has_outlines: bool = True
    by_site: tuple[str, ...] = ()


SOURCES: Choices[SourceFacts] = Choices(
    {
        "phantom": SourceFacts(
            "fedpedbrain.data.sources.phantom.cases:open_phantom",
            "fedpedbrain.data.sources.phantom.files:PHANTOM_FILES",
            by_site=("cases",),
        ),
        "bids": SourceFacts(
            "fedpedbrain.data.sources.bids.cases:open_bids",
            "fedpedbrain.data.sources.bids.files:BIDS_FILES",
            channels_key="image_suffixes",
        ),
        "listed": SourceFacts(
            "fedpedbrain.data.sources.listed.cases:open_listed",
            "fedpedbrain.data.sources.listed.files:LISTED_FILES",
            channels_key="columns.images",
            reads_any_form=True,
        ),
        "class_folders": SourceFacts(
            "fedpedbrain.data.sources.class_folders.cases:open_class_folders",
            "fedpedbrain.data.sources.class_folders.files:CLASS_FOLDER_FILES",
            reads_any_form=True,
            has_outlines=False,
        ),
        "flpedbrain": SourceFacts(
            "fedpedbrain.data.sources.flpedbrain.cases:open_flpedbrain",
            "fedpedbrain.data.sources.flpedbrain.files:FLPEDBRAIN_FILES",
        ),
    }
)
