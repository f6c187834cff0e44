"""Files like the published ones, but tiny: pickled dicts of arrays, by site and part, on disk or on a hub."""

import io
import pickle

import numpy as np

SHAPE = (32, 24, 16)
KEYS = ("xs_uint8", "ys_uint8", "label_classes")
SHARED_NORMALS = {
    "train": "normals_400x256x256x64_train_for_fl_64.npy",
    "val": "normals_867x256x256x64_val_for_fl_64.npy",
}
SHARED_KEYS = {"train": ("train_x", "train_seg", "train_y"), "val": ("val_x", "val_seg", "val_y")}


def make_cases(labels: list[int], seed: int, shape=SHAPE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise (N, H, W, D) with a bright block, outlined where the label is not 0; its place is its label's."""
    images = np.random.default_rng(seed).integers(20, 90, (len(labels), *shape), dtype=np.uint8)
    masks = np.zeros_like(images)
    height, width, depth = (size // 4 for size in shape)
    for mask, label in zip(masks, labels, strict=True):
        if label:
            mask[height + label : 2 * height + label, width : 2 * width, depth : 3 * depth] = 1
    return images + masks * np.uint8(120), masks, np.array(labels)


def write_dict(content: dict, is_array: bool = True) -> bytes:
    """A dict as ``numpy.save`` writes it, or a bare pickle of it."""
    if not is_array:
        return pickle.dumps(content, protocol=4)
    file = io.BytesIO()
    np.save(file, content, allow_pickle=True)
    return file.getvalue()


def site_file(labels: list[int], seed: int, is_array: bool = True, keys=KEYS, shape=SHAPE) -> bytes:
    """A file of these cases."""
    return write_dict(dict(zip(keys, make_cases(labels, seed, shape), strict=True)), is_array)


def published_files(sites: dict[str, tuple[list[int], list[int]]], num_normals: int = 8) -> dict[str, bytes]:
    """Files of sites with these labels in their parts ``train`` and ``val``, and those of shared normal cases."""
    files = {}
    for number, (site, labels) in enumerate(sites.items()):
        for part, seed in (("train", 2 * number), ("val", 2 * number + 1)):
            content = site_file(labels[seed % 2], seed, is_array=part == "train")
            files[f"{site}_data_uint8_{part}.npy"] = content
    for seed, (part, name) in enumerate(SHARED_NORMALS.items(), start=1000):
        files[name] = site_file([0] * num_normals, seed, keys=SHARED_KEYS[part])
    return files
