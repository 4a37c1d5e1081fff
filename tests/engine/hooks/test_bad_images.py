"""What a run says about images that cannot be read, and when it stops."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from a2mim.datasets import EpochSampler, SampleKey
from a2mim.engine.bad_images import BadImagesHook, write_names
from a2mim.engine.runner import ToolRunner
from a2mim.errors import BadDataError
from toy_run import read_scalars


class Numbers(Dataset):
    """A data set, and its source, of numbers some of which cannot be read."""

    def __init__(self, size: int, bad: Sequence[int], names: str = 'image {}') -> None:
        self.size, self.bad, self.names = size, set(bad), names
        self.source = self

    def __len__(self) -> int:
        return self.size

    def name(self, index: int) -> str:
        return self.names.format(index)

    def load(self, index: int) -> Tensor:
        if index in self.bad:
            raise BadDataError(f'{self.name(index)!r} is cracked')
        return torch.ones(1)

    def __getitem__(self, key: SampleKey) -> dict:
        index = key.index
        return dict(image=torch.ones(1), unreadable=index if index in self.bad else -1)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def train_step(self, data: dict, optim_wrapper: object) -> dict[str, Tensor]:
        return dict(loss=self.weight.detach().sum())


class StopAt(Hook):
    """Go down after some iterations, once a checkpoint is written."""

    priority = 'LOWEST'

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_train_iter(self, runner: Runner, *args: object, **kwargs: object) -> None:
        if runner.iter + 1 == self.iteration:
            raise InterruptedError


@pytest.fixture
def build(tmp_path) -> Callable[..., ToolRunner]:
    """A function from a data set to a run of one epoch, ten images a step, in their order."""
    count = iter(range(100))

    def build(dataset: Numbers, *hooks: Hook, resume: bool = False) -> ToolRunner:
        return ToolRunner(
            model=Model(),
            work_dir=str(tmp_path / 'run'),
            train_dataloader=DataLoader(
                dataset, batch_size=10, sampler=EpochSampler(dataset, shuffle=False)
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            default_hooks=dict(
                logger=dict(type='LoggerHook', interval=1),
                checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=False),
            ),
            custom_hooks=list(hooks),
            log_processor=dict(type='SpeedLogProcessor'),
            default_scope='a2mim',
            experiment_name=f'{tmp_path.name}-{next(count)}',
            resume=resume,
            load_from=str(tmp_path / 'run/latest.pth') if resume else None,
            cfg=Config(dict(optim_wrapper=dict(), train_dataloader=dict(batch_size=10))),
        )

    return build


def listed(tmp_path: Path) -> list[bytes]:
    return (tmp_path / 'run/bad_files.txt').read_bytes().splitlines()


def warnings(tmp_path: Path) -> list[str]:
    logs = sorted((tmp_path / 'run').glob('*/*.log'))
    return [line for log in logs for line in log.read_text().splitlines() if 'WARNING' in line]


def test_every_run_has_the_hook_once(build):
    default, own = build(Numbers(10, [])), build(Numbers(10, []), BadImagesHook(0.5))
    found = [[h.max_share for h in r.hooks if isinstance(h, BadImagesHook)] for r in (default, own)]
    assert found == [[0.1], [0.5]]


def test_each_bad_image_is_told_once_with_its_reason_and_listed(build, tmp_path):
    build(Numbers(100, [70, 5])).train()
    assert listed(tmp_path) == [b'image 5', b'image 70']
    told = [line for line in warnings(tmp_path) if 'is cracked' in line]
    assert len(told) == 2
    assert "'image 5' is cracked. Another image takes its place" in told[0]


def test_the_log_counts_them_from_the_first_on(build, tmp_path):
    build(Numbers(100, [70, 5, 25])).train()
    counts = [line.get('bad_images') for line in read_scalars(tmp_path / 'run')]
    assert counts == [1, 1, 2, 2, 2, 2, 2, 3, 3, 3]
    log = next((tmp_path / 'run').glob('*/*.log')).read_text()
    assert 'bad images: 3' in log


def test_a_run_without_bad_images_leaves_no_list_and_no_count(build, tmp_path):
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run/bad_files.txt').write_text('of an earlier run\n')
    build(Numbers(30, [])).train()
    assert not (tmp_path / 'run/bad_files.txt').exists()
    assert all('bad_images' not in line for line in read_scalars(tmp_path / 'run'))


def test_an_image_that_can_be_read_a_moment_later_is_told_as_such(build, tmp_path):
    dataset = Numbers(30, [3])
    dataset.load = lambda index: torch.ones(1)
    build(dataset).train()
    assert any('could not be read a moment ago' in line for line in warnings(tmp_path))
    assert not (tmp_path / 'run/bad_files.txt').exists()


def test_names_of_any_bytes_are_logged_and_listed(build, tmp_path):
    build(Numbers(30, [3], 'caf\udce9\n{}')).train()
    assert listed(tmp_path) == [b'caf\xe9\\n3']
    assert any(r"'caf\udce9\n3' is cracked" in line for line in warnings(tmp_path))


def test_more_than_the_share_ends_the_run_with_names_and_remedy(build, tmp_path):
    message = r"21 of the first 200 images.*'image 0'.*10\.0%.*bad_files\.txt; repair or remove"
    with pytest.raises(BadDataError, match=message):
        build(Numbers(200, range(0, 189, 9))).train()
    assert len(listed(tmp_path)) == 21


def test_exactly_the_share_is_accepted(build, tmp_path):
    build(Numbers(200, range(0, 180, 9))).train()
    assert len(listed(tmp_path)) == 20


def test_a_few_that_come_early_by_chance_do_not_end_the_run(build, tmp_path):
    build(Numbers(200, range(3))).train()
    assert len(listed(tmp_path)) == 3


def test_many_that_come_early_end_the_run_at_once(build, tmp_path):
    with pytest.raises(BadDataError, match='4 of the first 10 images'):
        build(Numbers(2000, range(4))).train()


def test_the_stated_share_counts(build):
    build(Numbers(20, range(8)), BadImagesHook(0.5)).train()
    with pytest.raises(BadDataError, match='1 of the first 10 images'):
        build(Numbers(20, range(1)), BadImagesHook(0.0)).train()


def test_a_share_is_refused_at_construction():
    with pytest.raises(ValueError, match=r'max_share=10 must be in \[0, 1\)'):
        BadImagesHook(10)


def test_a_resumed_run_goes_on_counting_and_listing(build, tmp_path):
    dataset = Numbers(100, [5, 70], 'caf\udce9 {}')
    with pytest.raises(InterruptedError):
        build(dataset, StopAt(4)).train()
    runner = build(dataset, resume=True)
    runner.load_or_resume()
    assert runner.message_hub.get_info('bad_images') == dict(seen=40, found={5: 'caf\udce9 5'})
    runner.train()
    assert listed(tmp_path) == [b'caf\xe9 5', b'caf\xe9 70']
    assert len([line for line in warnings(tmp_path) if "9 5' is cracked" in line]) == 1


def test_a_resumed_run_forgets_what_was_repaired_or_removed(build, tmp_path):
    with pytest.raises(InterruptedError):
        build(Numbers(100, [5, 6, 7]), StopAt(4)).train()
    assert len(listed(tmp_path)) == 3
    dataset = Numbers(100, [6, 7])  # number 5 is repaired
    dataset.name = lambda index: 'another' if index == 6 else f'image {index}'
    runner = build(dataset, resume=True)
    runner.train()
    assert listed(tmp_path) == [b'image 7']


def test_a_list_is_sorted_by_bytes_without_doubles(tmp_path):
    write_names(tmp_path / 'list.txt', ['b', 'ä', 'a\udcff', 'b'])
    expected = sorted([b'b', 'ä'.encode(), b'a\xff'])
    assert (tmp_path / 'list.txt').read_bytes().splitlines() == expected
    assert os.listdir(tmp_path) == ['list.txt']
