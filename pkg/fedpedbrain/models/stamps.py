"""What model files say of themselves where nothing else says how they were made."""

from collections.abc import Mapping


def split_by_stamp(digests: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Models and states that carry the settings digest expected of them, and those that carry another.

    Parameters
    ----------
    digests : file to the settings digest of its arm (``Study.settings_digest``)
    """
    # Takes a second, and is hardly ever needed.
    from fedpedbrain.models.files import load_tensors

    fresh, stale = [], []
    for path, expected in digests.items():
        content = load_tensors(path, mapped=True, checked=False)
        stamp = content["settings_digest"] if "settings_digest" in content else content["lineage"]["settings_digest"]
        (fresh if stamp == expected else stale).append(path)
    return fresh, stale
