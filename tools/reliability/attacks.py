"""Attack small runs in every way that docs/reliability.md promises to survive, and count.

    python tools/reliability/attacks.py [--only WORDS ...] [--jobs N] [--list]

A run is attacked at a chosen iteration. It has to end as the page says, with its state saved; then
it is resumed, and its end must equal that of an undisturbed run to the last bit. Prints a line for
each attack, then tries, held and failed; the exit code is 1 if any failed. Linux. Most attacks wait
longer than they compute, so that each core takes two at a time.
"""

import argparse
import json
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import command_attacks
import process_attacks
import storage_attacks
import transfer_attacks
from forked_runs import AttackFailedError, NotRunError, load_tool
from kill_and_resume import HERE
from mmengine import Config

import a2mim.datasets
import a2mim.evaluation
import a2mim.models  # noqa: F401, what a run would import by itself, in each fork anew

Case = tuple[str, Callable[[Path, Path], None]]


def attack(case: Case, root: Path, number: int) -> str:
    """Try one attack; ``'held'``, or what went wrong."""
    name, function = case
    folder = root / f'{number:03}'
    started = time.monotonic()
    try:
        function(root, folder)
        result = 'held'
    except NotRunError as error:
        result = f'not run: {error}'
    except AttackFailedError as error:
        result = f'failed: {error}'
    except Exception as error:  # the attack itself
        traceback.print_exc()
        result = f'failed: {type(error).__name__}: {error}'
    print(f'{time.monotonic() - started:5.1f} s  {name}: {result}', flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return result


def attack_all(cases: Sequence[Case], root: Path, jobs: int) -> list[str]:
    """Results of all cases, every ``jobs``-th of them from one fork."""
    forks = {}
    for job in range(jobs):
        folder = root / str(job)
        folder.mkdir()
        child = os.fork()
        if not child:
            try:
                own = [attack(case, folder, n) for n, case in enumerate(cases[job::jobs])]
                (folder / 'results.json').write_text(json.dumps(own), encoding='utf-8')
            finally:
                os._exit(0)
        forks[child] = folder
    for child in forks:
        os.waitpid(child, 0)
    files = [folder / 'results.json' for folder in forks.values()]
    return [result for file in files for result in json.loads(file.read_text(encoding='utf-8'))]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', nargs='+', default=[''], metavar='WORDS', help='in the name')
    parser.add_argument('--jobs', type=int, default=2 * (os.cpu_count() or 1), help='at a time')
    parser.add_argument('--list', action='store_true', help='print the names and end')
    args = parser.parse_args(argv)
    modules = (process_attacks, storage_attacks, command_attacks, transfer_attacks)
    cases = [case for module in modules for case in module.cases()]
    cases = [case for case in cases if any(words in case[0] for words in args.only)]
    if args.list:
        print('\n'.join(name for name, _ in cases))
        return
    # A run under nohup would not hear this one.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    load_tool()
    _ = Config.fromfile(HERE / 'killed_run.py').pretty_text  # loads the formatter
    # Not a TemporaryDirectory, which every fork would remove at its end.
    root = Path(tempfile.mkdtemp(prefix='attacks'))
    try:
        results = attack_all(cases, root, args.jobs)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    counts = Counter(result.split(':')[0] for result in results)
    print(f'tries: {len(results) - counts["not run"]}, held: {counts["held"]}, failed: ', end='')
    print(f'{counts["failed"]}, not run: {counts["not run"]}')
    if counts['failed']:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
