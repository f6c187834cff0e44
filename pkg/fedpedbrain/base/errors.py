"""The one exception type that a user is meant to read."""


class StudyError(Exception):
    """A mistake in the study's config, cohort or model files, said in one line a problem.

    The message names the file, site, round or key, what was expected, what was found, and what to do.
    """


class CohortError(StudyError):
    """Problems of the cohort, all of those found at once, one line each."""

    def __init__(self, problems: list[str], shown: int = 10) -> None:
        self.problems = problems
        lines = problems[:shown]
        if len(problems) > shown:
            lines.append(f"... and {len(problems) - shown} more problems of this kind")
        super().__init__("\n".join(lines))
