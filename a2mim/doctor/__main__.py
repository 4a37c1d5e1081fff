"""Check the installation and the machine, and name a remedy for every problem.

Exit code 0 if training works, 1 if it does not; optional parts do not count.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from a2mim.doctor.checks import (
    EXTRAS,
    Finding,
    Verdict,
    check_core,
    check_environment,
    check_extra,
    check_mixtures,
    check_operators,
    check_python,
    check_shared_memory,
    check_training,
)
from a2mim.options import Parser

COLORS = {Verdict.OK: 'green', Verdict.MISSING: 'yellow', Verdict.PROBLEM: 'red'}


def examine() -> list[Finding]:
    """All findings; checks that need torch are skipped if the core is broken."""
    findings = [check_python(), *check_core(), *check_mixtures(), check_shared_memory()]
    if not any(finding.stops for finding in findings):
        findings += [*check_environment(), *check_training()]
    return [*findings, check_operators(), *map(check_extra, EXTRAS)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = Parser(__doc__, ['', '--json'])
    parser.add_argument('--json', action='store_true', help='print JSON')
    args = parser.parse_args(argv)
    findings = examine()
    works = not any(finding.stops for finding in findings)
    console = Console()
    if args.json:
        text = json.dumps(dict(works=works, findings=[asdict(f) for f in findings]), indent=2)
        console.out(text, highlight=False)
    else:
        console.print(as_table(findings))
        console.print('Training works.' if works else 'Training does not work yet; see above.')
    return 0 if works else 1


def as_table(findings: Iterable[Finding]) -> Table:
    """One line per finding, a rule between the parts."""
    table = Table('part', 'name', 'found', 'result', 'what to do')
    part = ''
    for finding in findings:
        if part and finding.part != part:
            table.add_section()
        part = finding.part
        result = Text(finding.verdict.value, style=COLORS[finding.verdict])
        table.add_row(part, Text(finding.name), Text(finding.found), result, Text(finding.remedy))
    return table


if __name__ == '__main__':
    raise SystemExit(main())
