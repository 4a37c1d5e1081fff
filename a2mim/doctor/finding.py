"""One line of the report."""

from dataclasses import dataclass
from enum import Enum


class Verdict(str, Enum):
    """What a finding means."""

    OK = 'ok'
    MISSING = 'missing'  # of something optional, or of a package that is needed
    PROBLEM = 'problem'


@dataclass(frozen=True)
class Finding:
    """What was looked at, what was found, and what to do about it.

    Args:
        part: Heading that the finding belongs to.
        name: What was looked at.
        found: What is there.
        verdict: What that means.
        remedy: What to do; empty where all is well.
        needed: Whether training needs it.
    """

    part: str
    name: str
    found: str
    verdict: Verdict = Verdict.OK
    remedy: str = ''
    needed: bool = False

    @property
    def stops(self) -> bool:
        """Whether training cannot work."""
        return self.needed and self.verdict is not Verdict.OK
