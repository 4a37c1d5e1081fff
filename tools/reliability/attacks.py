"""Attack small runs in every way that docs/reliability.md promises to survive, and count.

    python tools/reliability/attacks.py [--only WORDS ...] [--list]

A run is attacked at a chosen iteration. It has to end as the page says, with its state saved; then
it is resumed, and its end must equal that of an undisturbed run to the last bit. Prints a line for
each attack, then tries, held and failed; the exit code is 1 if any failed. Linux; about five
minutes on two cores.
"""

import argparse
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import process_attacks
import storage_attacks
from forked_runs import AttackFailedError, load_tool
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
    except AttackFailedError as error:
        result = f'failed: {error}'
    except Exception as error:  # the attack itself
        traceback.print_exc()
        result = f'failed: {type(error).__name__}: {error}'
    print(f'{time.monotonic() - started:5.1f} s  {name}: {result}', flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    return result


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', nargs='+', default=[''], metavar='WORDS', help='in the name')
    parser.add_argument('--list', action='store_true', help='print the names and end')
    args = parser.parse_args(argv)
    cases = [*process_attacks.cases(), *storage_attacks.cases()]
    cases = [case for case in cases if any(words in case[0] for words in args.only)]
    if args.list:
        print('\n'.join(name for name, _ in cases))
        return
    load_tool()
    _ = Config.fromfile(HERE / 'killed_run.py').pretty_text  # loads the formatter
    # Not a TemporaryDirectory, which every fork would remove at its end.
    root = Path(tempfile.mkdtemp(prefix='attacks'))
    try:
        results = [attack(case, root, number) for number, case in enumerate(cases)]
    finally:
        shutil.rmtree(root, ignore_errors=True)
    counts = Counter(result == 'held' for result in results)
    print(f'tries: {len(results)}, held: {counts[True]}, failed: {counts[False]}')
    if counts[False]:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
