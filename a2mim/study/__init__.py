"""Studies: networks × starts × label counts × seeds, run by one driver that can be killed."""

from a2mim.study.driver import run_study
from a2mim.study.matrix import Job, Study, read_study

__all__ = [
    'Job',
    'Study',
    'read_study',
    'run_study',
]
