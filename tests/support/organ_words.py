"""Words of one organ, which a study's config may say, and code and pages of another study may not."""

import re

# As words of their own or parts of a name such as find_head; "ahead", "header" and "fedpedbrain" are none.
_ORGAN = re.compile(r"(?<![a-z])(heads?|brains?|skulls?|nos(?:e|es)|tumou?rs?|gliomas?)(?![a-z])", re.IGNORECASE)
_ALLOWED = [
    # The axis that runs along the body.
    r"\bfeet,? (?:to|and|to the) (?:the )?head\b",
    r"\(feet, head\)|\"feet\", \"head\"|\bS head\b|\bhead up\b|\bright, front and head\b",
    # Outputs of a network.
    r"(?:segmentation|classification)[ _]head",
    r"</?head>|git HEAD|\|HEAD\)",
    # The first version of TensorBoard's event files.
    r"brain\.Event:2",
]
_EXCEPT = re.compile("|".join(_ALLOWED))


def organ_words(text: str) -> list[str]:
    """Each organ word of a text, in small letters, without what is allowed anywhere."""
    return [match.lower() for match in _ORGAN.findall(_EXCEPT.sub("", text))]
