"""Words of the study within English sentences."""


def with_article(noun: str) -> str:
    """A noun behind its indefinite article, by its first letter: ``a lesion``, ``an aneurysm``."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
