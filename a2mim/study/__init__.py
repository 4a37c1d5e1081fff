"""Studies: networks × starts × label counts × seeds, run by one driver that can be killed."""

from a2mim.study.checks import check_study
from a2mim.study.driver import run_study
from a2mim.study.matrix import Study, find_study, read_study

__all__ = ['Study', 'check_study', 'find_study', 'read_study', 'run_study']
