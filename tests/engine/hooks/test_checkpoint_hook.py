"""When a run is saved, what its files are called, which ones stay, and what they hold."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from a2mim.engine.checkpointing import CheckpointHook
from a2mim.errors import NotFiniteStateError, NotWrittenError
from a2mim.weights import files
from a2mim.weights.safe_load import load_file

RUNS = itertools.count()  # mmengine keeps runs by name as long as the process lives


class Numbers(Dataset):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict:
        return dict(x=torch.tensor([float(index)]))


class Line(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x: Tensor, mode: str) -> dict[str, Tensor] | list[Tensor]:
        loss = self.layer(x).square().mean()
        return dict(loss=loss) if mode == 'loss' else [loss]


class Scores(BaseMetric):
    """The results that a test prescribes, one per validation; a number is an accuracy."""

    def __init__(self, scores: list[float | dict[str, float]]) -> None:
        super().__init__()
        self.scores = iter(scores)

    def process(self, data_batch: object, data_samples: object) -> None:
        self.results.append(0)

    def compute_metrics(self, results: list) -> dict[str, float]:
        result = next(self.scores)
        return result if isinstance(result, dict) else dict(accuracy=result)


class Calls(Hook):
    """Calls a function after every iteration, as the hook that listens to signals does."""

    priority = 'LOWEST'

    def __init__(self, call: Callable[[Runner, CheckpointHook], object]) -> None:
        self.call = call

    def after_train_iter(self, runner: Runner, *_: object, **__: object) -> None:
        saver = next(hook for hook in runner.hooks if isinstance(hook, CheckpointHook))
        self.call(runner, saver)


def build(
    work_dir: Path,
    *,
    accumulate: int = 1,
    scores: list[float | dict[str, float]] | None = None,
    hooks: list[Hook] | None = None,
    load_from: Path | None = None,
    **options: object,
) -> Runner:
    """A run of two epochs of three iterations."""
    loader = dict(
        dataset=Numbers(),
        batch_size=2,
        sampler=dict(type='DefaultSampler', shuffle=False),
        collate_fn=dict(type='default_collate'),
    )
    validation = dict(val_dataloader=loader, val_cfg=dict(), val_evaluator=[Scores(scores or [])])
    runner = Runner(
        model=Line(),
        work_dir=str(work_dir),
        train_dataloader=loader,
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='Adam', lr=0.1), accumulative_counts=accumulate),
        param_scheduler=dict(type='StepLR', step_size=1),
        default_hooks=dict(checkpoint=dict(type='CheckpointHook', **options)),
        custom_hooks=hooks,
        default_scope='a2mim',
        load_from=load_from and str(load_from),
        resume=load_from is not None,
        experiment_name=f'{work_dir.parent.name}-{work_dir.name}-{next(RUNS)}',
        **(validation if scores else {}),
    )
    return runner


def names(folder: Path, pattern: str = '*.pth') -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def test_latest_and_mmengines_file_name_the_newest_checkpoint(tmp_path):
    build(tmp_path, interval=1).train()
    assert (tmp_path / 'latest.pth').readlink() == Path('epoch_2.pth')
    assert (tmp_path / 'last_checkpoint').read_text() == str(tmp_path / 'epoch_2.pth')


@pytest.mark.parametrize(
    'keep, left', [(1, ['iter_6.pth']), (2, ['iter_4.pth', 'iter_6.pth']), (-1, None)]
)
def test_as_many_checkpoints_stay_as_asked(tmp_path, keep, left):
    build(tmp_path, interval=2, by_epoch=False, max_keep_ckpts=keep).train()
    assert names(tmp_path, 'iter*') == (left or ['iter_2.pth', 'iter_4.pth', 'iter_6.pth'])


@pytest.mark.parametrize(
    'by_epoch, left', [(False, ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']), (True, ['epoch_2.pth'])]
)
def test_without_an_interval_it_is_a_part_of_the_run(tmp_path, monkeypatch, by_epoch, left):
    monkeypatch.setattr('a2mim.engine.checkpointing.SHOWN', 3 if not by_epoch else 1)
    build(tmp_path, interval=None, by_epoch=by_epoch).train()
    assert names(tmp_path, '*_?.pth') == left


def test_the_old_checkpoint_is_there_until_the_new_one_has_its_name(tmp_path, monkeypatch):
    seen, rename = [], files.rename

    def look(partial: Path, path: Path) -> None:
        seen.append((path.name, names(tmp_path, 'epoch*.pth')))
        rename(partial, path)

    monkeypatch.setattr(files, 'rename', look)
    build(tmp_path, interval=1, max_keep_ckpts=1).train()
    assert ('epoch_2.pth', ['epoch_1.pth']) in seen
    assert names(tmp_path) == ['epoch_2.pth', 'latest.pth']


def test_a_checkpoint_holds_what_mmengine_saves(tmp_path):
    runner = build(tmp_path, interval=1)
    runner.train()
    state = load_file(tmp_path / 'epoch_2.pth')
    runner.save_checkpoint(str(tmp_path), 'theirs.pth', meta=dict(epoch=2, iter=6))
    theirs = load_file(tmp_path / 'theirs.pth')
    assert state.keys() == theirs.keys()
    assert state['meta'].keys() == theirs['meta'].keys()
    assert state['param_schedulers'] == theirs['param_schedulers']
    for key, moments in theirs['optimizer']['state'].items():
        for name, value in moments.items():
            assert torch.equal(state['optimizer']['state'][key][name], value)
    assert all(map(torch.equal, state['state_dict'].values(), theirs['state_dict'].values()))
    assert state['message_hub'].keys() == theirs['message_hub'].keys()


def test_a_middle_of_an_epoch_counts_finished_epochs_and_iterations(tmp_path):
    build(tmp_path, interval=2, by_epoch=False).train()
    meta = load_file(tmp_path / 'iter_4.pth')['meta']
    assert (meta['epoch'], meta['iter']) == (1, 4)


def test_what_training_does_meanwhile_is_not_in_the_file(tmp_path, monkeypatch):
    weights, verify = [], files.verify

    def remember(runner: Runner, saver: CheckpointHook) -> None:
        if runner.iter == 0:
            weights.append(runner.model.layer.weight.detach().clone())
        if runner.iter == 1:
            saver.writer.wait()

    monkeypatch.setattr(files, 'verify', lambda *args: (wait_a_moment(), verify(*args)))
    build(tmp_path, interval=1, by_epoch=False, hooks=[Calls(remember)]).train()
    assert torch.equal(load_file(tmp_path / 'iter_1.pth')['state_dict']['layer.weight'], weights[0])


def wait_a_moment() -> None:
    torch.randn(300, 300).matmul(torch.randn(300, 300))


def test_save_now_returns_when_the_file_is_on_the_disk(tmp_path):
    found = []

    def save(runner: Runner, saver: CheckpointHook) -> None:
        if runner.iter == 3:
            path = saver.save_now(runner)
            meta = load_file(path)['meta']
            found.append((path, meta['epoch'], meta['iter'], (tmp_path / 'latest.pth').readlink()))

    build(tmp_path, interval=1, max_keep_ckpts=1, hooks=[Calls(save)]).train()
    assert found == [(tmp_path / 'iter_4.pth', 1, 4, Path('iter_4.pth'))]
    assert names(tmp_path) == ['epoch_2.pth', 'latest.pth']


def test_save_now_does_not_write_the_same_state_twice(tmp_path, monkeypatch):
    written, rename = [], files.rename

    def note(partial: Path, path: Path) -> None:
        written.append(path.name)
        rename(partial, path)

    monkeypatch.setattr(files, 'rename', note)
    hooks = [Calls(lambda runner, saver: saver.save_now(runner))]
    build(tmp_path, interval=1, by_epoch=False, hooks=hooks).train()
    assert [name for name in written if name.startswith('iter')] == names(tmp_path, 'iter*')


def test_nothing_is_saved_while_gradients_are_accumulated(tmp_path):
    can_save = []
    hooks = [Calls(lambda runner, saver: can_save.append(saver.can_save(runner)))]
    build(tmp_path, interval=3, by_epoch=False, accumulate=2, hooks=hooks).train()
    assert can_save == [False, True] * 3
    assert names(tmp_path) == ['iter_4.pth', 'iter_6.pth', 'latest.pth']


def test_an_epoch_that_ends_between_updates_is_saved_after_the_next_one(tmp_path):
    build(tmp_path, interval=1, accumulate=2).train()
    assert names(tmp_path) == ['epoch_2.pth', 'iter_4.pth', 'latest.pth']
    assert load_file(tmp_path / 'iter_4.pth')['meta']['epoch'] == 1


def test_save_now_refuses_half_an_update(tmp_path):
    hooks = [Calls(lambda runner, saver: saver.save_now(runner))]
    with pytest.raises(ValueError, match='ask can_save'):
        build(tmp_path, accumulate=2, hooks=hooks).train()


def test_the_best_checkpoint_replaces_the_one_before_and_is_not_for_resuming(tmp_path):
    build(tmp_path, interval=1, scores=[0.5, 0.6], save_best='accuracy').train()
    assert names(tmp_path, 'best*') == ['best_accuracy_epoch_2.pth']
    best = load_file(tmp_path / 'best_accuracy_epoch_2.pth')
    assert best['meta']['resumable'] is False
    assert 'optimizer' not in best
    assert load_file(tmp_path / 'epoch_2.pth')['message_hub']['runtime_info']['best_score'] == 0.6


def test_a_best_checkpoint_that_is_not_beaten_stays(tmp_path):
    build(tmp_path, interval=1, scores=[0.6, 0.5], save_best='accuracy').train()
    assert names(tmp_path, 'best*') == ['best_accuracy_epoch_1.pth']


def test_the_best_checkpoint_before_goes_after_the_new_one_is_there(tmp_path, monkeypatch):
    seen, rename = {}, files.rename

    def look(partial: Path, path: Path) -> None:
        seen[path.name] = names(tmp_path, 'best*.pth')
        rename(partial, path)

    monkeypatch.setattr(files, 'rename', look)
    build(tmp_path, interval=1, scores=[0.5, 0.6], save_best='accuracy').train()
    assert seen['best_accuracy_epoch_2.pth'] == ['best_accuracy_epoch_1.pth']


def test_every_metric_has_a_best_checkpoint_of_its_own(tmp_path):
    scores = [dict(accuracy=0.6, val_loss=2.0), dict(accuracy=0.5, val_loss=1.0)]
    build(tmp_path, interval=1, scores=scores, save_best=['accuracy', 'val_loss']).train()
    best = ['best_accuracy_epoch_1.pth', 'best_val_loss_epoch_2.pth']
    assert names(tmp_path, 'best*') == best
    info = load_file(tmp_path / 'epoch_2.pth')['message_hub']['runtime_info']
    assert (info['best_score_accuracy'], info['best_score_val_loss']) == (0.6, 1.0)
    assert [info[f'best_ckpt_{name}'] for name in ('accuracy', 'val_loss')] == [
        str(tmp_path / name) for name in best
    ]


def test_auto_takes_the_first_metric_and_a_rule_overrides_its_name(tmp_path):
    scores = [dict(accuracy=0.6, val_loss=2.0), dict(accuracy=0.5, val_loss=3.0)]
    build(tmp_path, interval=1, scores=scores, save_best='auto', rule='less').train()
    assert names(tmp_path, 'best*') == ['best_accuracy_epoch_2.pth']


def test_a_resumed_run_replaces_the_best_checkpoint_of_its_first_part(tmp_path):
    build(tmp_path, interval=1, scores=[0.6, 0.5], save_best='accuracy').train()
    first, scores = tmp_path / 'epoch_1.pth', [0.7]
    build(tmp_path, interval=1, scores=scores, save_best='accuracy', load_from=first).train()
    assert names(tmp_path, 'best*') == ['best_accuracy_epoch_2.pth']


def test_a_metric_that_the_validation_lacks_is_named(tmp_path):
    with pytest.raises(KeyError, match=r"'top1' is no metric .*'accuracy'"):
        build(tmp_path, scores=[0.5, 0.6], save_best='top1').train()


@pytest.mark.parametrize(
    'options',
    [
        dict(save_best='iou'),  # neither greater nor less is known
        dict(save_best='top1', rule='higher'),
        dict(save_best=['top1', 'top1']),
        dict(save_best=['auto', 'top1']),
        dict(save_best=['top1', 'top5', 'loss'], rule=['greater', 'greater']),
    ],
)
def test_rules_and_metrics_that_do_not_correspond_are_refused_at_once(options):
    with pytest.raises(ValueError, match=r'save_best=.* rule='):
        CheckpointHook(interval=1, **options)


def test_a_state_that_is_not_finite_stops_the_run_and_leaves_the_last_good_one(tmp_path):
    def spoil(runner: Runner, saver: CheckpointHook) -> None:
        if runner.iter == 3:
            with torch.no_grad():
                runner.model.layer.bias.fill_(float('nan'))

    with pytest.raises(NotFiniteStateError, match=r'state_dict\.layer\.bias'):
        build(tmp_path, interval=1, max_keep_ckpts=1, hooks=[Calls(spoil)]).train()
    assert names(tmp_path) == ['epoch_1.pth', 'latest.pth']


def test_the_error_of_the_thread_stops_training_at_the_next_iteration(tmp_path, monkeypatch):
    reached = []

    def refuse(descriptor: int) -> None:
        raise PermissionError(13, 'Permission denied')

    def note(runner: Runner, saver: CheckpointHook) -> None:
        if saver.writer._job is not None:
            saver.writer._job.exception()  # waits
        reached.append(runner.iter)

    monkeypatch.setattr(files, 'to_disk', refuse)
    with pytest.raises(NotWrittenError, match=r'iter_2\.pth could not be written: Permission'):
        build(tmp_path, interval=2, by_epoch=False, hooks=[Calls(note)]).train()
    assert reached == [0, 1]


def test_the_error_of_the_last_write_does_not_pass_unseen(tmp_path, monkeypatch):
    def refuse(descriptor: int) -> None:
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(files, 'to_disk', refuse)
    with pytest.raises(NotWrittenError, match=r'epoch_2\.pth could not be written'):
        build(tmp_path, interval=2).train()


def test_half_a_file_of_a_killed_run_is_removed(tmp_path):
    (tmp_path / 'epoch_7.pth.123.partial').write_bytes(b'half')
    build(tmp_path, interval=1).train()
    assert names(tmp_path, '*.partial') == []


def test_files_that_a_killed_run_did_not_come_to_remove_go_in_their_turn(tmp_path):
    build(tmp_path, interval=2, by_epoch=False).train()
    second = build(tmp_path, interval=1, max_keep_ckpts=2)
    second.train()
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth', 'latest.pth']


def test_another_folder_holds_a_folder_named_like_the_work_dir(tmp_path):
    work_dir, other = tmp_path / 'run', tmp_path / 'other'
    build(work_dir, interval=1, out_dir=str(other), filename_tmpl='state_{}.pth').train()
    assert names(other / 'run') == ['latest.pth', 'state_1.pth', 'state_2.pth']
    assert names(work_dir) == []
    assert (work_dir / 'last_checkpoint').read_text() == str(other / 'run' / 'state_2.pth')


def test_the_interval_counts_from_where_saving_begins(tmp_path):
    build(tmp_path, interval=2, by_epoch=False, save_begin=3, save_last=False).train()
    assert names(tmp_path, 'iter*') == ['iter_3.pth', 'iter_5.pth']


def test_an_unknown_argument_is_refused_at_once():
    with pytest.raises(TypeError, match="no argument 'keep'"):
        CheckpointHook(interval=1, keep=3)


@pytest.mark.parametrize(
    'options', [dict(backend_args=dict(backend='petrel')), dict(save_optimizer=False)]
)
def test_what_would_make_files_unsafe_is_refused_at_once(options):
    with pytest.raises(ValueError, match='leave it out'):
        CheckpointHook(interval=1, **options)


def test_a_folder_elsewhere_is_refused_at_once():
    with pytest.raises(ValueError, match='must be a local folder'):
        CheckpointHook(interval=1, out_dir='s3://bucket')
