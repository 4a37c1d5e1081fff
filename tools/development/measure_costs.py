"""Measure parameters and operations of every config, for the metafiles.

    python tools/development/measure_costs.py

Writes ``tools/ledger/costs.json``, which ``tools/ledger/make_ledger.py`` reads. A model that is
pre-trained is counted with its decoder; "FLOPs" are multiply-accumulates of one image of the size
that it is pre-trained or tested at, as ``tools/analysis_tools/get_flops.py`` counts them.
"""

import argparse
import json
from pathlib import Path

import torch

from a2mim.analysis.model_costs import count_macs, count_parameters
from a2mim.engine.command_line import one_line_errors
from a2mim.weights.config_files import read_config
from a2mim.weights.load_model import input_spec, load_model
from a2mim.weights.released import recipe_files

FILE = Path(__file__).resolve().parents[1] / 'ledger/costs.json'


def measure(path: Path) -> dict[str, int]:
    """``FLOPs`` and ``Parameters`` of the model of a config, which has no values meanwhile."""
    with torch.device('meta'):
        model = load_model(path, pretrained=False)
    return {'FLOPs': count_macs(model), 'Parameters': count_parameters(model).total}


def main() -> None:
    """Write the numbers of the configs; models that several have are measured once."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    costs, known = {}, {}
    for name, path in recipe_files().items():
        config = read_config(path).to_dict()
        key = json.dumps([config['model'], str(input_spec(config))], sort_keys=True)
        try:
            costs[f'configs/{name}.py'] = known[key] = known.get(key) or measure(path)
        except ValueError as error:  # the config does not say of which size its images are
            print(f'left out: {name}: {error}', flush=True)
    FILE.write_text(json.dumps(costs, indent=1, sort_keys=True) + '\n', encoding='utf-8')
    print(f'wrote {FILE}: {len(costs)} configs')


if __name__ == '__main__':
    with one_line_errors():
        main()
