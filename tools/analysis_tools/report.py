"""Comparison of several networks in one self-contained HTML file.

    python tools/analysis_tools/report.py RUN_OR_CHECKPOINT [...] --out report.html [options]

A work dir adds its training curves, a checkpoint is only measured. Sections are measured once into
REPORT_sections/ next to the file: the same command resumes after an interruption. --results adds
finished folders of other analyses. docs/report.md explains the sections.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from a2mim.engine.command_line import one_line_errors
from a2mim.options import Parser, add_analysis_options
from a2mim.version import __version__

if TYPE_CHECKING:
    from a2mim.analysis import Network
    from a2mim.analysis.report import Entry
    from a2mim.analysis.report_page import Header
    from a2mim.analysis.report_sections import Comparison


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    examples = [
        'RUN CHECKPOINT --out report.html',
        'RUN random:RUN --quick --sections curves spectra',
    ]
    parser = Parser(__doc__, examples, conflict_handler='resolve')  # --out is a file here
    add_analysis_options(parser, out='', num_images=None)
    add = parser.add_argument
    add('--out', default='work_dirs/analysis/report.html', metavar='FILE.html', help='the page')
    add('--labelled', action='store_true', help='folders of --images are classes')
    probe = 'with train and val, class folders'
    add('--probe-images', default='photos', metavar='DIR', help=probe)
    add('--quick', action='store_true', help='fewer images and draws')
    sections = 'only these, such as curves; an unknown name lists all; without a value: none'
    add('--sections', nargs='*', type=read_section, metavar='NAME', help=sections)
    add('--results', nargs='+', default=[], metavar='DIR', help='folders to add')
    return parser.parse_args(argv)


def read_section(text: str) -> str:
    """The name of a section."""
    from a2mim.analysis.report import SECTIONS

    if text not in SECTIONS:
        raise argparse.ArgumentTypeError(f'{text!r} is none of {", ".join(SECTIONS)}')
    return text


def open_comparison(args: argparse.Namespace, entries: 'Sequence[Entry]') -> 'Comparison':
    """Load networks and logs."""
    from a2mim.analysis import open_networks
    from a2mim.analysis.report_sections import QUICK, THOROUGH, Comparison
    from a2mim.analysis.runs import read_run

    args.subjects = [entry.text for entry in entries]
    networks = open_networks(args)
    logs = [
        replace(read_run(entry.work_dir), label=network.label)
        for entry, network in zip(entries, networks, strict=True)
        if entry.work_dir is not None
    ]
    names = ('images', 'labelled', 'probe_images', 'num_images', 'seed', 'batch_size')
    effort = QUICK if args.quick else THOROUGH
    options = {name: getattr(args, name) for name in names}
    return Comparison(networks, logs, effort=effort, **options)


def header(networks: 'Sequence[Network]', command: Sequence[str], notes: Sequence[str]) -> 'Header':
    """Top of the page: networks, date, version and command."""
    from a2mim.analysis.report import runs_table
    from a2mim.analysis.report_page import Header

    now = datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z')
    facts = [('Date', now), ('a2mim', __version__), ('Command', shlex.join(command))]
    title = 'Comparison of ' + ', '.join(network.label for network in networks)
    return Header(title, facts, runs_table(networks), notes)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    # With torch: after the command line has been read.
    from a2mim.analysis.report import check_report_path, compute_sections, read_entry, write_report
    from a2mim.analysis.report_page import read_result_folder, render_page
    from a2mim.weights.safe_load import reading

    own = sys.argv[1:] if argv is None else argv
    command = ['python', 'tools/analysis_tools/report.py', *own]
    with one_line_errors(), reading(args):
        out = Path(args.out)
        check_report_path(out)
        if args.num_images is not None and args.num_images < 2:
            raise ValueError(f'--num-images {args.num_images}: give 2 or more')
        added = [read_result_folder(folder) for folder in args.results]
        compared = open_comparison(args, [read_entry(text) for text in args.subjects])
        folder = out.with_name(f'{out.stem}_sections')
        sections, notes = compute_sections(args.sections, compared, folder, tell=print)
        top = header(compared.networks, command, notes)
        write_report(out, render_page(top, [*sections, *added]))
        print(f'{len(sections) + len(added)} sections, {out.stat().st_size / 1e6:.1f} MB: {out}')


if __name__ == '__main__':
    main()
