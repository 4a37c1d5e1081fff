"""A written config is read without running it; shipped ones: ``configs/test_every_config.py``."""

from pathlib import Path

import pytest

from a2mim.weights.recipe import literal_config
from toy_run import toy_config


def test_the_values_are_those_of_the_config():
    cfg = toy_config(Path('data'), val_evaluator__topk=[1, 2])
    assert literal_config(cfg.pretty_text) == cfg.to_dict()


def test_keys_that_are_no_names_and_numbers_without_a_literal_are_read():
    text = "rules = dict({'bn.weight': dict(lr=-1e-3), 'end': inf}, last=1)"
    rules = {'bn.weight': {'lr': -1e-3}, 'end': 'inf', 'last': 1}
    assert literal_config(text) == {'rules': rules}


@pytest.mark.parametrize('text', ['import os', 'a = open("x")', 'a = (', 'a.b = 1', 'print(1)'])
def test_other_python_is_no_config(text):
    assert literal_config(text) is None
