"""One line for whatever ends a run before its first step, a traceback for what comes later."""

import pytest
import torch
from mmengine import Config

from a2mim.engine import command_line
from a2mim.engine.command_line import checkpoint_file, one_line_errors, sentence
from a2mim.engine.launch import FirstIteration
from a2mim.errors import BadDataError, NotFiniteError, NotFiniteStateError, NotWrittenError


@pytest.fixture(autouse=True)
def one_process(monkeypatch) -> None:
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    monkeypatch.delenv('A2MIM_TRACEBACK', raising=False)


@pytest.mark.parametrize(
    'error, line',
    [
        (ValueError('lr=-1 must be\n  positive'), 'lr=-1 must be positive'),
        (KeyError("'Foo' is not registered"), "'Foo' is not registered"),
        (FileNotFoundError('no folder'), 'no folder'),
        (FileNotFoundError(2, 'No such file', 'a.pth'), "[Errno 2] No such file: 'a.pth'"),
        (ValueError(), 'ValueError'),
        (
            AttributeError("'list' object has no attribute 'get'"),
            "AttributeError: 'list' object has no attribute 'get' (A2MIM_TRACEBACK=1 shows where)",
        ),
        (
            ValueError(
                'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most '
                'recent call last):\n  File "x.py", line 3\nValueError: image 3: broken'
            ),
            'image 3: broken',
        ),
    ],
)
def test_an_error_becomes_a_sentence(error, line):
    assert sentence(error) == line


def test_a_user_error_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as exit_, one_line_errors():
        raise ValueError('lr=-1 must be positive')
    assert exit_.value.code == 2
    assert capsys.readouterr().err == 'error: lr=-1 must be positive\n'


def overflow() -> None:
    overflow()


@pytest.mark.parametrize(
    'mistake',
    [
        lambda: [].get,  # pyright: ignore
        lambda: 1 % 0,
        lambda: torch.zeros(2) @ torch.zeros(3),
        lambda: [][1],
        lambda: float(10**400),
        lambda: Config.fromfile('a.txt'),
        overflow,
        lambda: next(iter(())),
    ],
)
def test_an_error_of_any_type_is_one_line_before_the_first_iteration(mistake, capsys):
    with pytest.raises(SystemExit) as exit_, one_line_errors(FirstIteration()):
        mistake()
    assert exit_.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith('error: ') and said.count('\n') == 1


def test_an_interruption_is_one_line_with_its_own_code(capsys):
    with pytest.raises(SystemExit) as exit_, one_line_errors():
        raise KeyboardInterrupt
    assert exit_.value.code == 130
    assert capsys.readouterr().err.startswith('stopped by Ctrl-C')


def test_errors_pass_once_training_works():
    training = FirstIteration()
    training.after_train_iter(None, 0)
    with pytest.raises(ValueError, match='late'), one_line_errors(training):
        raise ValueError('late')


@pytest.mark.parametrize('error', [RuntimeError, AttributeError, MemoryError])
def test_a_fault_keeps_its_traceback_once_training_works(error):
    training = FirstIteration()
    training.after_train_iter(None, 0)
    with pytest.raises(error, match='late'), one_line_errors(training):
        raise error('late')


@pytest.mark.parametrize(
    ('error', 'code'),
    [
        (BadDataError('image 3 is empty'), 2),
        (NotFiniteError('10 updates in a row'), 3),
        (NotFiniteStateError('weight is NaN'), 3),
        (NotWrittenError('the disk is full'), 74),
    ],
)
def test_what_is_expected_is_one_line_with_its_code_at_any_time(error, code, capsys):
    training = FirstIteration()
    training.after_train_iter(None, 0)
    with pytest.raises(SystemExit) as exit_, one_line_errors(training):
        raise error
    assert exit_.value.code == code
    assert capsys.readouterr().err == f'error: {error}\n'


@pytest.mark.parametrize(
    'value, raised', [('1', ValueError), ('yes', ValueError), ('0', SystemExit), ('', SystemExit)]
)
def test_a_developer_sees_where_it_came_from(monkeypatch, value, raised):
    monkeypatch.setenv('A2MIM_TRACEBACK', value)
    with pytest.raises(raised), one_line_errors():
        raise ValueError('lr')


def test_a_local_rank_that_is_no_number_hides_nothing(monkeypatch, capsys):
    monkeypatch.setenv('LOCAL_RANK', 'x')
    with pytest.raises(SystemExit), one_line_errors():
        raise ValueError('lr')
    assert capsys.readouterr().err == 'error: lr\n'


def test_other_processes_let_the_first_one_speak(monkeypatch, capsys):
    waits = []
    monkeypatch.setenv('LOCAL_RANK', '3')
    monkeypatch.setattr(command_line.time, 'sleep', waits.append)
    with pytest.raises(SystemExit), one_line_errors():
        raise ValueError('mine alone')
    assert waits == [command_line.PATIENCE]
    assert capsys.readouterr().err == 'error (process 3): mine alone\n'


def test_the_folder_of_a_run_is_its_last_checkpoint(tmp_path):
    (tmp_path / 'latest.pth').write_bytes(b'weights')
    for path in (tmp_path, tmp_path / 'latest.pth'):
        assert checkpoint_file(str(path), '--pretrained') == str(tmp_path / 'latest.pth')
    (tmp_path / 'empty').mkdir()
    for name, words in (('empty', ' is a folder; give'), ('none', ': there is no such')):
        with pytest.raises(OSError, match=f'--pretrained .*{name}{words}'):
            checkpoint_file(str(tmp_path / name), '--pretrained')
