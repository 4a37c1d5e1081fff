"""Tables and a plot of a study, finished or not.

    python tools/study/report.py digits DIR            print the page, write DIR/accuracy.png
    python tools/study/report.py digits DIR --publish  copy the results into the repository, too

Without DIR the results in the repository are read; --publish then writes docs/evidence.md, and the
short tables in README.md and docs/methods.md, anew.
"""

import argparse
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from a2mim.engine.command_line import one_line_errors
from a2mim.study.evaluation import MARGIN
from a2mim.study.matrix import Study, find_study, read_study
from a2mim.study.page import draw_plot, short_table, write_page
from a2mim.study.results import IDENTITY, RESULTS, check_folder, read_results

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs/evidence.md'
# Pages with a short table, and the starts in it.
SHORT = {
    ROOT / 'README.md': ('simmim', 'a2mim'),
    ROOT / 'docs/methods.md': ('simmim', 'a2mim', 'mae', 'spark', 'features'),
}
PLOT = 'images/study_{}.png'  # below the folder of the page


def published_folder(study: Study) -> Path:
    """Where the repository has the results of a study."""
    return study.folder / 'results'


def with_block(text: str, name: str, block: str) -> str:
    """``text`` with ``block`` between the marks of a study.

    Raises:
        ValueError: If it has no such marks.
    """
    marks = re.compile(rf'(<!-- study: {re.escape(name)} -->\n).*?(<!-- end -->)', re.DOTALL)
    if not marks.search(text):
        raise ValueError(f'the page has no line <!-- study: {name} -->')
    return marks.sub(lambda found: f'{found[1]}{block}\n{found[2]}', text)


def page_of(study: Study, margin: float = MARGIN) -> str:
    """The text of the page, with the block of a study written anew from its published results."""
    name = study.folder.name
    results = read_results(published_folder(study) / RESULTS)
    block = write_page(study, results, PLOT.format(name), margin)
    return with_block(PAGE.read_text(encoding='utf-8'), name, block)


def short_page_of(study: Study, page: Path, margin: float = MARGIN) -> str:
    """The text of one of ``SHORT``, with the table of a study written anew, if it has one."""
    text, name = page.read_text(encoding='utf-8'), study.folder.name
    if f'<!-- study: {name} -->' not in text:
        return text
    results = read_results(published_folder(study) / RESULTS)
    return with_block(text, name, short_table(study, results, SHORT[page], margin))


def publish(study: Study, folder: Path, margin: float) -> None:
    """Copy the results into the repository, and write the plot and the block of the study."""
    target = published_folder(study)
    if folder.resolve() != target.resolve():
        check_folder(target, study)
        for file in (RESULTS, IDENTITY):
            shutil.copyfile(folder / file, target / file)
    results = read_results(target / RESULTS)
    if any(record.get('split') == 'test' for record in results.values()):
        draw_plot(study, results, PAGE.parent / PLOT.format(study.folder.name))
    PAGE.write_text(page_of(study, margin), encoding='utf-8')
    for page in SHORT:
        page.write_text(short_page_of(study, page, margin), encoding='utf-8')


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('study', help='a folder of configs/study, or a path')
    parser.add_argument('folder', type=Path, nargs='?', metavar='DIR', help='of the results')
    parser.add_argument('--seeds', type=int, nargs='+', help='in place of those of the matrix')
    parser.add_argument(
        '--margin',
        type=float,
        default=MARGIN,
        help='how much higher the final training loss of a baseline may be (%(default)s)',
    )
    parser.add_argument('--publish', action='store_true', help='write into the repository')
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parse_args(argv)
    with one_line_errors():
        study = read_study(find_study(args.study), args.seeds)
        folder = args.folder or published_folder(study)
        if (folder / IDENTITY).is_file():
            check_folder(folder, study)
        elif args.folder:
            raise FileNotFoundError(f'{folder} holds no results of a study')
        if args.publish:
            publish(study, folder, args.margin)
            return
        results = read_results(folder / RESULTS)
        if results:
            draw_plot(study, results, folder / 'accuracy.png')
        print(write_page(study, results, 'accuracy.png', args.margin))


if __name__ == '__main__':
    main()
