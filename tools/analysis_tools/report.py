"""Several networks in one HTML file, which needs nothing else to be read.

    python tools/analysis_tools/report.py RUN_OR_CHECKPOINT [...] --out report.html [options]

A work dir adds its training curves, a checkpoint is measured only. Sections go to REPORT_sections/
beside the file and are measured once: the same command goes on after an interruption. --results
adds folders that other analyses have finished. docs/report.md explains the sections.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from a2mim.analysis import Subject, add_analysis_options, open_subjects
from a2mim.analysis.report import SECTIONS, check_report_path, compute_section, write_report
from a2mim.analysis.report_page import (
    Entry,
    Header,
    ResultFolder,
    read_entry,
    read_result_folder,
    render_page,
    runs_table,
)
from a2mim.analysis.report_sections import QUICK, THOROUGH, Comparison
from a2mim.analysis.runs import read_run
from a2mim.engine.command_line import one_line_errors
from a2mim.version import __version__
from a2mim.weights.safe_load import trust_checkpoints


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        conflict_handler='resolve',  # --out is a file here
    )
    add_analysis_options(parser, out='', num_images=None)
    parser.add_argument('--out', default='work_dirs/analysis/report.html', metavar='FILE.html')
    parser.add_argument('--labelled', action='store_true', help='folders of --images are classes')
    parser.add_argument(
        '--probe-images', default='photos', metavar='DIR', help='with train and val, class folders'
    )
    parser.add_argument('--quick', action='store_true', help='measure less: a first look')
    parser.add_argument('--sections', nargs='*', choices=SECTIONS, help='only these; none: none')
    parser.add_argument('--results', nargs='+', default=[], metavar='DIR', help='folders to add')
    return parser.parse_args(argv)


def open_comparison(args: argparse.Namespace, entries: Sequence[Entry]) -> Comparison:
    """Networks and logs."""
    args.subjects = [entry.text for entry in entries]
    subjects = open_subjects(args)
    logs = [
        replace(read_run(entry.work_dir), label=subject.label)
        for entry, subject in zip(entries, subjects, strict=True)
        if entry.work_dir is not None
    ]
    names = ('images', 'labelled', 'probe_images', 'num_images', 'seed', 'batch_size')
    effort = QUICK if args.quick else THOROUGH
    options = {name: getattr(args, name) for name in names}
    return Comparison(subjects, logs, effort=effort, **options)


def measure(args: argparse.Namespace, compared: Comparison) -> tuple[list[ResultFolder], list[str]]:
    """The sections, and why some are missing; one that was asked for by name must not be."""
    out = Path(args.out)
    folder = out.with_name(f'{out.stem}_sections')
    sections, notes = [], []
    names = list(SECTIONS) if args.sections is None else list(dict.fromkeys(args.sections))
    if any(SECTIONS[name].on_images for name in names):
        compared.open_images(compared.num_images or compared.effort.images)  # refuses bad ones
    for name in names:
        start = time.perf_counter()
        try:
            sections.append(compute_section(name, compared, folder))
        except ValueError as error:
            if args.sections is not None:
                raise ValueError(f'section {name}: {error}') from error
            notes.append(f'Left out: {SECTIONS[name].title} ({error}).')
            print(notes[-1])
        else:
            print(f'{name:24} {time.perf_counter() - start:6.1f} s')
    return sections, notes


def header(subjects: Sequence[Subject], command: Sequence[str], notes: Sequence[str]) -> Header:
    """What is compared, when and how."""
    now = datetime.now().astimezone().strftime('%Y-%m-%d %H:%M %Z')
    facts = [('Date', now), ('a2mim', __version__), ('Command', shlex.join(command))]
    title = 'Comparison of ' + ', '.join(subject.label for subject in subjects)
    return Header(title, facts, runs_table(subjects), notes)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    command = [
        'python',
        'tools/analysis_tools/report.py',
        *(sys.argv[1:] if argv is None else argv),
    ]
    with one_line_errors(), trust_checkpoints(args.trust_checkpoint):
        out = Path(args.out)
        check_report_path(out)
        if args.num_images is not None and args.num_images < 2:
            raise ValueError(f'--num-images {args.num_images}: give 2 or more')
        added = [read_result_folder(folder) for folder in args.results]
        compared = open_comparison(args, [read_entry(text) for text in args.subjects])
        sections, notes = measure(args, compared)
        top = header(compared.subjects, command, notes)
        write_report(out, render_page(top, [*sections, *added]))
        print(f'{len(sections) + len(added)} sections, {out.stat().st_size / 1e6:.1f} MB: {out}')


if __name__ == '__main__':
    main()
