"""Values of ``--cfg-options``: Python literals, and the shorter forms that mmengine knows."""

import argparse
import re

import pytest
from mmengine import DictAction

from a2mim.engine.config_options import ConfigOptions, read_value
from toy_run import load_tool

STOP = "dict(type='EarlyStoppingHook', monitor='accuracy/top1')"
READ = {
    f'[{STOP}]': [dict(type='EarlyStoppingHook', monitor='accuracy/top1')],
    f'[{STOP},dict(type=B, c=[dict(d=(1,"2")),{{"e,f":[1, 2]}}])]': [
        dict(type='EarlyStoppingHook', monitor='accuracy/top1'),
        dict(type='B', c=[dict(d=(1, '2')), {'e,f': [1, 2]}]),
    ],
    'dict(a=1, b=dict(c=None))': dict(a=1, b=dict(c=None)),
    "{'bn.weight': dict(lr=-1e-3), 'end': inf}": {'bn.weight': dict(lr=-1e-3), 'end': float('inf')},
    '{a: 1, 2: [b c]}': {'a': 1, 2: ['b c']},
    'dict()': {},
    '[{}]': [{}],
    # Names with blanks, commas, quotes and brackets.
    '[cat x,dog]': ['cat x', 'dog'],
    '[ cat x , dog ]': ['cat x', 'dog'],
    '["cat x", "dog"]': ['cat x', 'dog'],
    "['cat, x', dog]": ['cat, x', 'dog'],
    'cat x,dog y': ['cat x', 'dog y'],
    "[it's,rock 'n' roll]": ["it's", "rock 'n' roll"],
    '["it\'s"]': ["it's"],
    r"['a\'b,c']": ["a'b,c"],
    "['a]b','(c']": ['a]b', '(c'],
    '/data/my images/x.pth': '/data/my images/x.pth',
    'data (1)/x': 'data (1)/x',
    "'a, b'": 'a, b',
    '"a b"': 'a b',
    # What is in quotes is text.
    "['1', 1]": ['1', 1],
    "'None'": 'None',
    '"1e-3"': '1e-3',
    "['[1,2]']": ['[1,2]'],
    '""': '',
    # Nested brackets.
    '[[1,2],[3,[4,5]]]': [[1, 2], [3, [4, 5]]],
    '(1,2),(3,4)': [(1, 2), (3, 4)],
    '[(a b,1),[c]]': [('a b', 1), ['c']],
}
AS_BEFORE = [
    *('1', '-1', '+3', '007', '1_000', '1e-3', 'true', 'False', 'None', 'none', 'inf', '-inf'),
    *('a', '', '~', '0x10', 'a-b', 'a.b', 'a/b:c', 'x=y', 'x(1)', 'a(b', 'a"b', '1+1', '$HOME'),
    *('1,2', '1,', ',', 'a,b', 'a, b', '1,a,None,true', '(1,2)', '(1,)', '(1)', '[1]', '[1,]'),
    *('[]', '()', '[ ]', '[a,b]', '[a, b]', '["a","b"]', "['a']", '[(1,2),[a,b],c]', '[[1]]'),
    *('[None,true]', '[-1e-3,inf]', '[a,,b]', '[a]b,c', '[a.b,c/d]', '"[1,2]"', "'[a,(1,2)]'"),
    *("'a'", '"a"', '[a=b,c]', 'http://a/b?c=d', '((1,2),(3,4))', '([1],)'),
]


@pytest.mark.parametrize('text', READ)
def test_a_value_is_read_as_python_reads_it(text):
    assert repr(read_value(text)) == repr(READ[text])


@pytest.mark.parametrize('text', AS_BEFORE)
def test_the_forms_of_mmengine_mean_what_they_meant(text):
    assert repr(read_value(text)) == repr(DictAction._parse_iterable(text))


def parse(*words: str) -> dict:
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={})
    return parser.parse_args(words).cfg_options


def test_options_are_collected_and_the_last_one_counts():
    words = ['--cfg-options', 'a.b=1', 'c=x=y', '--cfg-options', 'a.b=2', ' d = [e f]']
    assert parse(*words) == {'a.b': 2, 'c': 'x=y', 'd': ['e f']}
    assert parse() == {}


@pytest.mark.parametrize(
    'words, said',
    [
        (['train_cfg.max_epochs=1', '5'], "'5' is not KEY=VALUE; write .*train_cfg.max_epochs=5"),
        (['train_cfg.max_epochs', '5'], "'train_cfg.max_epochs 5' has a blank for the sign ="),
        (
            ['mean=[1,', '2]'],
            r"'mean=\[1,' ends at a blank; quote the whole option: 'mean=\[1, 2\]'",
        ),
        (['a=[dict(b=1]'], 'a bracket has no partner'),
        (['a=dict(b=1'], 'a bracket has no partner'),
        (['a=dict(b)'], "'b' is not KEY=VALUE"),
        (['a="b'], 'a quote has no partner'),
        (['a={1,2}'], "'1' is not KEY:VALUE"),
        (['=1'], "'=1' is not KEY=VALUE"),
        (['a=' + '[' * 1000 + ']' * 1000], 'too many brackets'),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, said, capsys):
    with pytest.raises(SystemExit) as exit_:
        parse('--cfg-options', *words)
    assert exit_.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith('error: --cfg-options') and error.count('\n') == 1
    assert len(error) < 300
    assert re.search(said, error)


@pytest.mark.parametrize(
    'tool, arguments',
    [
        ('train', ['a.py', '--cfg-options']),
        ('test', ['a.py', 'b.pth', '--cfg-options']),
        ('analysis_tools/print_config', ['a.py', '--cfg-options']),
        ('analysis_tools/list_stages', ['resnet18', '--model-options']),
        ('model_converters/export_backbone', ['a', 'b', '--to', 'timm', '--model-options']),
        ('visualizations/vis_cam', ['a.png', '--cfg-options']),
    ],
)
def test_every_tool_reads_them_so(tool, arguments):
    found = load_tool(tool).parse_args([*arguments, 'a=[b c,dict(d=1)]'])
    given = getattr(found, 'cfg_options', None) or found.model_options
    assert given == {'a': ['b c', {'d': 1}]}
