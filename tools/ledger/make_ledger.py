"""Write the tables of configs in Markdown files, ``model-index.yml`` and its metafiles.

    python tools/ledger/make_ledger.py            write the files that change
    python tools/ledger/make_ledger.py --check    exit with code 1 if a file would change

A table stands between ``<!-- ledger: NAME -->`` and ``<!-- end -->`` in a README; the text around
it is written by hand. The data come from the docstrings and values of the configs, from the table
of released weights, from ``configs/measured.yml`` and, with the costs of the models, from
``costs.json``, which ``tools/development/measure_costs.py`` writes.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import yaml
from metafiles import metafiles
from recipe import Recipe, read_recipes
from tables import (
    deviations_table,
    measured_table,
    published_numbers,
    recipe_table,
    released_file,
)

from a2mim.weights import released

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r'(<!-- ledger: (?P<name>\S+) -->\n).*?(<!-- end -->)', re.DOTALL)
PAGES = ('docs/evidence.md', 'configs/README.md', 'configs/openmixup/README.md')
FOLDERS = {
    'a2mim': 'configs/openmixup/pretrain/a2mim/',
    'simmim': 'configs/openmixup/pretrain/simmim/',
    'finetune': 'configs/openmixup/finetune/',
    'own': 'configs/',
}


def build_tables(recipes: Sequence[Recipe]) -> dict[str, str]:
    """All tables, by name."""
    weights: dict[str, list[str]] = {}
    for entry in released.entries():
        if entry.config:
            weights.setdefault(f'configs/{entry.config}.py', []).append(released_file(entry))
    measured = yaml.safe_load((ROOT / 'configs/measured.yml').read_text(encoding='utf-8'))
    groups: dict[str, list[Recipe]] = {name: [] for name in FOLDERS}
    for recipe in recipes:
        groups[next(n for n, f in FOLDERS.items() if recipe.path.startswith(f))].append(recipe)
    numbers = published_numbers(recipes)
    tables = {name: recipe_table(rows, numbers, weights) for name, rows in groups.items()}
    return {**tables, 'measured': measured_table(measured), 'deviations': deviations_table(recipes)}


def build_files(root: Path = ROOT) -> dict[Path, str]:
    """Content of all generated files, by path."""
    recipes = read_recipes(root)
    tables = build_tables(recipes)
    files = {}
    for page in PAGES:
        text = (root / page).read_text(encoding='utf-8')
        files[root / page] = BLOCK.sub(lambda m: f'{m[1]}{tables[m["name"]]}\n{m[3]}', text)
    # Of several files of one config the first: later ones are of longer trainings.
    listed = [entry for entry in reversed(released.entries()) if entry.config and entry.url]
    urls = {f'configs/{entry.config}.py': cast(str, entry.url) for entry in listed}
    costs = json.loads((root / 'tools/ledger/costs.json').read_text(encoding='utf-8'))
    return files | {root / path: text for path, text in metafiles(recipes, urls, costs).items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the files that change, or with ``--check`` list them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args(arguments)
    changed = {
        path: text
        for path, text in build_files().items()
        if not path.is_file() or path.read_text(encoding='utf-8') != text
    }
    for path, text in changed.items():
        if not args.check:
            path.write_text(text, encoding='utf-8')
        print(f'{"outdated" if args.check else "wrote"} {path.relative_to(ROOT)}')
    raise SystemExit(1 if args.check and changed else 0)


if __name__ == '__main__':
    main()
