"""Segmentation objects of series and multi-frame files, and of a real oblique series where it is at hand."""

import dicom_files
import highdicom as hd
import numpy as np
import pydicom
import pytest
import yaml
from fedpedbrain.base.errors import StudyError
from fedpedbrain.data.formats.reading import read_scan
from fedpedbrain.inference.segmentation_object import write_segmentation_object
from workspace import REPOSITORY

# What the object says of the software that made it.
OWN = {"DeviceSerialNumber"}
MODEL = {"name": "fedavg", "sha256": "5" * 64, "lineage": {"kind": "global", "arm": "fedavg", "seed": 0, "round": 3}}


FORMATS = yaml.safe_load((REPOSITORY / "config.yaml").read_text(encoding="utf-8"))["formats"]
SERIES, ENHANCED, REAL = "series", "enhanced", "real"
SHUFFLED = [3, 0, 4, 1, 2]


@pytest.fixture(scope="module", params=[SERIES, ENHANCED, REAL])
def scan(request, tmp_path_factory):
    """An oblique scan whose files or frames are in no order, and a real one where it is at hand."""
    folder = tmp_path_factory.mktemp("scan")
    image = dicom_files.sample_image(size=(12, 10, 5), degrees=20.0)
    if request.param == SERIES:
        dicom_files.write_series(folder, image, order=SHUFFLED)
    elif request.param == ENHANCED:
        dicom_files.write_enhanced(folder / "enhanced.dcm", image, order=SHUFFLED)
    else:
        folder = REPOSITORY.parent / "shared" / "data" / "ge_pd_dicom"
        if not folder.is_dir():
            pytest.skip(f"the real series is not at {folder}")
    return read_scan(folder, FORMATS)


@pytest.fixture(scope="module")
def regions(scan):
    """Two boxes, the second within the first; the first slice has none."""
    whole, core = (np.zeros(scan.image.GetSize()[::-1], dtype=bool) for _ in range(2))
    whole[1:4, 3:9, 2:7] = True
    core[2:4, 4:6, 3:5] = True
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
    if scan.frame_numbers:
        frames = [number + 1 for number in scan.frame_numbers]
        pixels = found.get_pixels_by_source_frame(source_uids(scan)[0], frames, assert_missing_frames_are_empty=True)
    else:
        pixels = found.get_pixels_by_source_instance(source_uids(scan))
    for number, region in enumerate(regions.values()):
        assert (pixels[..., number].astype(bool) == region).all()


def test_frames_lie_where_the_scans_slices_lie(written, scan, regions):
    frames = pydicom.dcmread(written).PerFrameFunctionalGroupsSequence
    assert len(frames) == 3 + 2
    for frame in frames:
        region = list(regions.values())[frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber - 1]
        position = [float(part) for part in frame.PlanePositionSequence[0].ImagePositionPatient]
        column, row, place = scan.image.TransformPhysicalPointToContinuousIndex(position)
        # The real series' slices lie up to 0.07 mm off their places of 7 mm.
        assert (column, row) == pytest.approx((0.0, 0.0), abs=0.1)
        assert place == pytest.approx(round(place), abs=0.02)
        assert region[round(place)].any()


def test_it_says_which_model_made_it(written):
    found = hd.seg.segread(written)
    for number in found.segment_numbers:
        (algorithm,) = found.get_segment_description(number).SegmentationAlgorithmIdentificationSequence
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("fedpedbrain fedavg", "5" * 64)
    assert found.SeriesDescription == "fedpedbrain fedavg: whole_tumour, core"


def test_it_names_the_checkpoint_of_an_imported_model(tmp_path, scan, regions):
    lineage = {"kind": "imported", "source": "ckpt.pth", "parent_sha256": "6" * 64, "arm": "", "seed": 0, "round": 0}
    write_segmentation_object(tmp_path / "imported.dcm", scan, regions, MODEL | {"lineage": lineage})
    found = hd.seg.segread(tmp_path / "imported.dcm").get_segment_description(1)
    (algorithm,) = found.SegmentationAlgorithmIdentificationSequence
    assert "ckpt.pth" in algorithm.AlgorithmParameters
    assert "6" * 64 in algorithm.AlgorithmParameters
    assert "seed" not in algorithm.AlgorithmParameters


def test_it_belongs_to_its_patient_and_study_and_carries_no_more_of_them(written, scan):
    found, source = pydicom.dcmread(written), pydicom.dcmread(scan.files[0], stop_before_pixels=True)
    for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert found[keyword].value == source[keyword].value
    of_patient = {element.keyword for element in found if element.tag.group == 0x0010}
    assert of_patient == {"PatientName", "PatientID", "PatientBirthDate", "PatientSex"}
    needed = {"PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "ReferringPhysicianName", "StudyDate"}
    assert not {element.keyword for element in found.iterall()} & (set(dicom_files.IDENTIFYING) - needed - OWN)


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        (None, "Doe^Erika"),
        ("ISO_IR 100", "M\u00fcller^Zo\u00eb"),
        ("ISO_IR 192", "\u0141uczak^Zo\u00eb"),
        ("ISO_IR 144", "\u0418\u0432\u0430\u043d\u043e\u0432^\u0418\u0432\u0430\u043d"),
        ("ISO-IR 192", "M\u00fcller^Zo\u00eb"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce"),
    ],
)
def test_names_keep_their_letters(tmp_path, character_set, name):
    tags = {"SpecificCharacterSet": character_set} if character_set else {}
    dicom_files.write_series(tmp_path / "series", dicom_files.sample_image(), **tags, PatientName=name)
    scan = read_scan(tmp_path / "series", FORMATS)
    source = pydicom.dcmread(scan.files[0], stop_before_pixels=True)
    assert source.PatientName == name
    regions = {"core": np.ones(scan.image.GetSize()[::-1], dtype=bool)}
    write_segmentation_object(tmp_path / "object.dcm", scan, regions, MODEL)
    assert pydicom.dcmread(tmp_path / "object.dcm").PatientName == name


@pytest.mark.filterwarnings("error")
def test_no_warning_quotes_the_patients_name(tmp_path):
    # highdicom warns of a name that is not of several parts.
    dicom_files.write_series(tmp_path / "series", dicom_files.sample_image(), PatientName="Erika")
    scan = read_scan(tmp_path / "series", FORMATS)
    regions = {"core": np.ones(scan.image.GetSize()[::-1], dtype=bool)}
    write_segmentation_object(tmp_path / "object.dcm", scan, regions, MODEL)


def test_the_distance_of_slices_is_that_of_their_positions(written, scan):
    (measures,) = pydicom.dcmread(written).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    # The real series says 2 mm, which is its gap.
    assert float(measures.SpacingBetweenSlices) == pytest.approx(scan.image.GetSpacing()[2], abs=0.01)


def test_nothing_found_is_written_too(tmp_path, scan, regions):
    empty = {name: np.zeros_like(region) for name, region in regions.items()}
    write_segmentation_object(tmp_path / "empty.dcm", scan, empty, MODEL)
    found = hd.seg.segread(tmp_path / "empty.dcm")
    assert len(found.segment_numbers) == 2
    assert not found.pixel_array.any()


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_headers_that_say_too_little_are_refused_without_naming_the_patient(tmp_path, missing):
    dicom_files.write_series(tmp_path / "series", dicom_files.sample_image(), **{missing: None})
    scan = read_scan(tmp_path / "series", FORMATS)
    regions = {"core": np.ones(scan.image.GetSize()[::-1], dtype=bool)}
    with pytest.raises(StudyError, match="the headers do not say all that it needs") as refusal:
        write_segmentation_object(tmp_path / "object.dcm", scan, regions, MODEL)
    assert not any(value in str(refusal.value) for value in dicom_files.IDENTIFYING.values())
    assert not (tmp_path / "object.dcm").exists()
