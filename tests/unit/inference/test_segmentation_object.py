"""Segmentation objects, of a real oblique series where it is at hand."""

import highdicom as hd
import numpy as np
import pydicom
import pytest
import yaml
from fedpedbrain.data.formats import read_scan
from fedpedbrain.inference.segmentation_object import write_segmentation_object
from workspace import REPOSITORY

MODEL = {"name": "fedavg", "sha256": "5" * 64, "lineage": {"arm": "fedavg", "seed": 0, "round": 3}}


@pytest.fixture(scope="module")
def scan():
    folder = REPOSITORY.parent / "shared" / "data" / "ge_pd_dicom"
    if not folder.is_dir():
        pytest.skip(f"the real series is not at {folder}")
    config = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))
    return read_scan(folder, config["formats"])


@pytest.fixture(scope="module")
def regions(scan):
    """Two boxes, the second within the first; slices 0 to 4 have none."""
    whole, core = (np.zeros(scan.image.GetSize()[::-1], dtype=bool) for _ in range(2))
    whole[5:9, 100:140, 90:110] = True
    core[6:8, 110:120, 95:100] = True
    return {"whole_tumour": whole, "core": core}


@pytest.fixture(scope="module")
def written(tmp_path_factory, scan, regions):
    path = tmp_path_factory.mktemp("object") / "segmentation.dcm"
    write_segmentation_object(path, scan, regions, MODEL)
    return path


def source_uids(scan) -> list[str]:
    return [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in scan.files]


def test_it_refers_to_every_source_instance_and_no_other(written, scan):
    (series,) = pydicom.dcmread(written).ReferencedSeriesSequence
    referenced = [item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence]
    assert sorted(referenced) == sorted(source_uids(scan))
    assert series.SeriesInstanceUID == pydicom.dcmread(scan.files[0]).SeriesInstanceUID


def test_segments_lie_on_their_source_slices_under_the_regions_names(written, scan, regions):
    found = hd.seg.segread(written)
    labels = [found.get_segment_description(number).segment_label for number in found.segment_numbers]
    assert labels == ["whole_tumour", "core"]
    pixels = found.get_pixels_by_source_instance(source_uids(scan))
    for number, region in enumerate(regions.values()):
        assert (pixels[..., number].astype(bool) == region).all()


def test_frames_lie_where_their_source_slices_lie(written, scan):
    sources = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, scan.files)}
    frames = pydicom.dcmread(written).PerFrameFunctionalGroupsSequence
    assert len(frames) == 4 + 2
    for frame in frames:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        source = sources[image.ReferencedSOPInstanceUID]
        assert frame.PlanePositionSequence[0].ImagePositionPatient == source.ImagePositionPatient


def test_it_says_which_model_made_it(written):
    found = hd.seg.segread(written)
    for number in found.segment_numbers:
        (algorithm,) = found.get_segment_description(number).SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("fedpedbrain fedavg", "5" * 64)
    assert found.SeriesDescription == "fedpedbrain fedavg: whole_tumour, core"


def test_it_belongs_to_its_patient_and_study_and_carries_no_more_of_them(written, scan):
    found, source = pydicom.dcmread(written), pydicom.dcmread(scan.files[0], stop_before_pixels=True)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert found[keyword].value == source[keyword].value
    of_patient = {element.keyword for element in found if element.tag.group == 0x0010}
    assert of_patient == {"PatientName", "PatientID", "PatientBirthDate", "PatientSex"}
    for keyword in ("PatientAge", "PatientWeight", "StudyDescription", "StationName"):
        assert keyword in source
        assert keyword not in {element.keyword for element in found.iterall()}


def test_the_distance_of_slices_is_that_of_their_positions(written):
    (measures,) = pydicom.dcmread(written).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    # The series itself says 2 mm, which is its gap.
    assert float(measures.SpacingBetweenSlices) == pytest.approx(7.0, abs=0.01)


def test_nothing_found_is_written_too(tmp_path, scan, regions):
    empty = {name: np.zeros_like(region) for name, region in regions.items()}
    write_segmentation_object(tmp_path / "empty.dcm", scan, empty, MODEL)
    found = hd.seg.segread(tmp_path / "empty.dcm")
    assert len(found.segment_numbers) == 2
    assert not found.pixel_array.any()
