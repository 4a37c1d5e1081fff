"""A data set that is not there is named before anything is built."""

import pytest
from mmengine import Config

from a2mim.transfer.launch import check_data_folders


def test_folders_that_are_there_pass(tmp_path):
    dataset = dict(type='Repeat', dataset=dict(data_root=f'{tmp_path}/'))
    check_data_folders(Config(dict(train_dataloader=dict(dataset=dataset))), ['train', 'val'])


@pytest.mark.parametrize('depth', [0, 1, 2])
def test_a_missing_folder_is_named_with_the_option_that_changes_it(tmp_path, depth):
    dataset, key = dict(data_root=str(tmp_path / 'coco')), 'val_dataloader.dataset'
    for _ in range(depth):
        dataset, key = dict(type='Wrapper', dataset=dataset), f'{key}.dataset'
    cfg = Config(dict(val_dataloader=dict(dataset=dataset)))
    with pytest.raises(FileNotFoundError, match=rf'{key}.data_root=\S+coco: there is no such'):
        check_data_folders(cfg, ['train', 'val'])
    check_data_folders(cfg, ['train', 'test'])


def test_several_validation_sets_are_refused():
    cfg = Config(dict(val_dataloader=[dict(dataset=dict()), dict(dataset=dict())]))
    with pytest.raises(TypeError, match='val_dataloader is a list'):
        check_data_folders(cfg, ['train', 'val'])
