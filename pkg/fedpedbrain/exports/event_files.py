"""TensorBoard event files: a run folder an arm and seed, one inside it for each site, scalars by round.

Events carry the time 0: what a file holds then follows from the study alone, and equal studies have equal files. How
long jobs took is known elsewhere. The horizontal axis to choose is the step, which is the round.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Status
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from fedpedbrain.base.files import replacing
from fedpedbrain.exports.model_runs import ModelRun
from fedpedbrain.exports.round_values import WHOLE_ARM, RoundValue

# TensorBoard knows its files by the second part of the name; the third is usually a time.
FILE_NAME = "events.out.tfevents.0"


def write_event_files(folder: str | Path, runs: Iterable[ModelRun]) -> None:
    """Write the event files of every run below a folder, as ``{arm}/seed-{seed}`` and ``{arm}/seed-{seed}/{site}``.

    A run has its settings as hyperparameters, and the final scores at the round that was chosen.
    """
    for run in runs:
        place = Path(folder, run.arm, f"seed-{run.seed}")
        by_site: dict[str, list[RoundValue]] = {WHOLE_ARM: []}
        for value in run.values:
            by_site.setdefault(value.site, []).append(value)
        for site, values in by_site.items():
            events = [_scalar(f"rounds/{value.metric}", value.value, value.round) for value in values]
            if site == WHOLE_ARM:
                scores = [_scalar(tag, value, run.selection["round"]) for tag, value in run.final_values.items()]
                events = [*_session(run.parameters), *events, *scores]
            _write_events(place / FILE_NAME if site == WHOLE_ARM else place / site / FILE_NAME, events)


def _write_events(path: Path, events: Iterable[Event]) -> None:
    with replacing(path) as temporary, open(temporary, "wb") as file:
        writer = RecordWriter(file)
        for event in (Event(file_version="brain.Event:2"), *events):
            writer.write(event.SerializeToString(deterministic=True))


def _scalar(tag: str, value: float, step: int) -> Event:
    return Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))


def _session(parameters: Mapping[str, Any]) -> Iterator[Event]:
    """What the page of hyperparameters needs to list a run: that it began, with which settings, and that it ended."""
    start, end = SessionStartInfo(), SessionEndInfo(status=Status.Value("STATUS_SUCCESS"))
    for name, setting in parameters.items():
        if isinstance(setting, bool):
            start.hparams[name].bool_value = setting
        elif isinstance(setting, int | float):
            start.hparams[name].number_value = setting
        else:
            start.hparams[name].string_value = setting
    infos = {
        metadata.SESSION_START_INFO_TAG: HParamsPluginData(session_start_info=start),
        metadata.SESSION_END_INFO_TAG: HParamsPluginData(session_end_info=end),
    }
    for tag, info in infos.items():
        content = metadata.create_summary_metadata(info)
        # Written as it comes, settings would stand in another order each time.
        content.plugin_data.content = info.SerializeToString(deterministic=True)
        value = Summary.Value(tag=tag, metadata=content, tensor=metadata.NULL_TENSOR)
        yield Event(summary=Summary(value=[value]))
