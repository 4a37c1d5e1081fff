"""Tools under the names that they have in OpenMMLab."""

import pytest

from toy_run import ROOT, load_tool

NAMES = {
    'visualization/browse_dataset': 'visualizations/browse_dataset',
    'visualization/vis_cam': 'visualizations/vis_cam',
    'visualization/vis_scheduler': 'visualizations/vis_lr',
    'visualization/vis_tsne': 'visualizations/vis_embedding',
    'misc/verify_dataset': 'prepare_data/verify_dataset',
}


@pytest.mark.parametrize('name', NAMES)
def test_a_name_of_openmmlab_is_the_tool_of_ours(name):
    tool, ours = ROOT / 'tools' / f'{name}.py', ROOT / 'tools' / f'{NAMES[name]}.py'
    assert tool.resolve() == ours
    # Python takes the folder of the file that a link leads to; a copy has its own.
    assert (tool.parent / 'a2mim.py').is_file()


def test_the_scheduler_takes_the_short_options():
    parse = load_tool('visualization/vis_scheduler').parse_args
    args = parse(['c.py', '-d', '1000', '-n', '8', '-s', 'lr.png'])
    assert (args.dataset_size, args.ngpus, args.save_path) == (1000, 8, 'lr.png')
