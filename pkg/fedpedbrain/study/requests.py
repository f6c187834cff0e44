"""What a call asks for beside the study: new scans to predict, a checkpoint to import, DICOM series to convert.

Read while the job graph is built: standard library alone.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from fedpedbrain.study.imported_checkpoint import ImportedCheckpoint
from fedpedbrain.study.scan_request import ScanRequest


class Requests:
    """The keys of the config that the command line sets.

    Parameters
    ----------
    config : the merged config
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    @cached_property
    def scans(self) -> ScanRequest:
        """Which new scans are to be predicted by which models."""
        return ScanRequest(self._config["scan"], self._config["inbox"], self._config["model"])

    @cached_property
    def imports(self) -> dict[str, ImportedCheckpoint]:
        """Checkpoints made elsewhere that become model files, by the name of the model."""
        if self._config["checkpoint"] is None:
            return {}
        checkpoint = ImportedCheckpoint(self._config["checkpoint"], self._config["checkpoint_sha256"])
        return {self._config["imported_model"] or checkpoint.plain_name: checkpoint}

    @property
    def predicts_scan(self) -> bool:
        """Whether the config names a scan and a model, all that the prediction of a new scan needs."""
        return self.scans.is_complete

    @property
    def converts(self) -> bool:
        """Whether the config names a folder of DICOM series and one for the BIDS data set that they become."""
        return self._config["dicom_root"] is not None and self._config["bids_root"] is not None

    @property
    def need_cohort(self) -> bool:
        """Whether a cohort that is not there is an error: what is asked for beside the study needs none."""
        return not (self.predicts_scan or self.imports or self.converts)

    def check_files(self) -> None:
        """Refuse what is not there; a ``StudyError`` names the key and the path."""
        self.scans.check_files()
        for checkpoint in self.imports.values():
            checkpoint.check_file("checkpoint")
