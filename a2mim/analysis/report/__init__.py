"""Several networks in one HTML file: measured sections, and finished folders of results."""

from a2mim.analysis.report.comparison import QUICK, THOROUGH, Comparison, Effort
from a2mim.analysis.report.entries import Entry, read_entry
from a2mim.analysis.report.header import runs_table
from a2mim.analysis.report.page import Header, render_page
from a2mim.analysis.report.result_folder import ResultFolder, read_result_folder
from a2mim.analysis.report.sections import SECTIONS, compute_section
from a2mim.analysis.report.write import check_report_path, write_report

__all__ = [
    'QUICK',
    'SECTIONS',
    'THOROUGH',
    'Comparison',
    'Effort',
    'Entry',
    'Header',
    'ResultFolder',
    'check_report_path',
    'compute_section',
    'read_entry',
    'read_result_folder',
    'render_page',
    'runs_table',
    'write_report',
]
