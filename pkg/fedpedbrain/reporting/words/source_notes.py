"""What a reader must know of a source before reading any score."""

SOURCE_NOTES = {
    "phantom": "Simulated cohort: averaged adult anatomy with painted tumours; scores say nothing clinical.",
    "flpedbrain": "The published files name no patients and no voxel sizes: every case counts as a patient, and "
    "volumes are nominal.",
    "class_folders": "Single pictures whose patients nobody knows: slices of one patient may stand on both sides of a "
    "split, and scores are then too good.",
}
