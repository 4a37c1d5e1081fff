"""The training data of detectors and segmentors resume within an epoch and survive bad images."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import Config
from mmengine.hooks import Hook
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image
from torch.utils.data import DataLoader

import shrunk_detector
import shrunk_segmentor
from a2mim.datasets import storage
from a2mim.errors import StorageError
from a2mim.transfer.data import BadFileError, CheckedLoading
from exact_run import SaveAt, differing, state

pytestmark = [pytest.mark.transfer, pytest.mark.filterwarnings('default')]
DETECTOR = shrunk_detector.CONFIGS / 'mask-rcnn_r50_fpn_ms-1x_coco.py'
SEGMENTOR = shrunk_segmentor.CONFIGS / 'upernet_r50_4xb4-160k_ade20k-512x512.py'
TASKS = ('detection', 'segmentation')
BAD = 4  # index of an image whose file is truncated
IMAGES = 12
BATCHES = IMAGES // 2
# Half of the time there is no shape in the crop, and the pipeline gives no sample.
SMALL_CROP = dict(type='RandomCrop', crop_size=(24, 24))
NO_VALIDATION = dict(val_dataloader=None, val_evaluator=None, val_cfg=None)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def widen(root: Path) -> None:
    """Make the images of COCO's format wide and tall by turns: buckets of unequal numbers."""
    file = root / 'annotations/instances_train2017.json'
    content = json.loads(file.read_text())
    for entry in content['images']:
        path = root / 'train2017' / entry['file_name']
        side = 'height' if entry['id'] % 3 else 'width'
        entry[side] += 32
        picture = Image.new('RGB', (entry['width'], entry['height']))
        with Image.open(path) as image:
            picture.paste(image)
        picture.save(path, quality=95)
    file.write_text(json.dumps(content))


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Twelve images for each task."""
    root = tmp_path_factory.mktemp('data')
    folders = dict(
        detection=shrunk_detector.write_shapes(root / 'coco', images=IMAGES, val=1, size=64),
        segmentation=shrunk_segmentor.write_shapes(root / 'ade', images=IMAGES, val=1, size=64),
    )
    widen(folders['detection'])
    return folders


@pytest.fixture(scope='module')
def damaged(data: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same with a truncated image in each."""
    root = tmp_path_factory.mktemp('damaged')
    copies = {task: Path(shutil.copytree(data[task], root / task)) for task in TASKS}
    for task, copy in copies.items():
        truncate(image_files(task, copy)[BAD])
    return copies


def image_files(task: str, root: Path) -> list[Path]:
    folder = dict(detection='train2017', segmentation='images/training')[task]
    return sorted((root / folder).glob('*.jpg'))


def unprepared(task: str, root: Path) -> Config:
    """The published config, shrunk."""
    from a2mim.transfer.launch import parse_train_args, set_pretrain

    kind, file = (
        (shrunk_detector, DETECTOR) if task == 'detection' else (shrunk_segmentor, SEGMENTOR)
    )
    args = parse_train_args([str(file), 'none', *kind.options(file, root, 64)])
    cfg = Config.fromfile(file)
    cfg.merge_from_dict({**args.cfg_options, **NO_VALIDATION, 'randomness.seed': 0})
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=2)
    set_pretrain(cfg, 'none')
    return cfg


def prepared(task: str, root: Path) -> Config:
    from a2mim.transfer.data import prepare_data

    cfg = unprepared(task, root)
    if task == 'detection':
        cfg.train_dataloader.dataset.pipeline.insert(3, SMALL_CROP)
    assert prepare_data(cfg) is None
    return cfg


def build(cfg: Config, workers: int = 0) -> DataLoader:
    """The loader of a run, whose generators are in another state each time."""
    disturb()
    cfg.train_dataloader.update(num_workers=workers, persistent_workers=workers > 0)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return Runner.build_dataloader(cfg.train_dataloader, seed=random.randrange(1000))


def disturb() -> None:
    system = random.SystemRandom()
    random.seed(system.random())
    np.random.seed(system.randrange(2**32))
    torch.manual_seed(system.randrange(2**32))


def content(batch: dict) -> list[tuple]:
    """All of a batch that a model sees, in an order that can be compared."""
    return [
        (sample.img_path, image.shape, image.numpy().tobytes(), annotation(sample), unreadable)
        for image, sample, unreadable in zip(
            batch['inputs'], batch['data_samples'], batch['unreadable'], strict=True
        )
    ]


def annotation(sample: object) -> bytes:
    if 'gt_sem_seg' in sample:
        return sample.gt_sem_seg.data.numpy().tobytes()
    boxes = sample.gt_instances.bboxes
    return getattr(boxes, 'tensor', boxes).numpy().tobytes()


def stream(loader: DataLoader, start: int, task: str) -> Iterator[list[tuple]]:
    """The batches of epoch 1, or of all iterations, from one of them on."""
    from a2mim.engine.loops import batches_after, start_after

    if task == 'detection':
        loader.batch_sampler.sampler.set_epoch(1)
        start_after(loader, start)
        return map(content, loader)
    return map(content, batches_after(loader, start))


def whole_stream(cfg: Config, task: str) -> list[list[tuple]]:
    number = BATCHES if task == 'detection' else 2 * BATCHES
    batches = stream(build(cfg), 0, task)
    return [next(batches) for _ in range(number)]


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('task', TASKS)
def test_samples_after_any_batch_are_those_of_the_whole_run(task, workers, data):
    cfg = prepared(task, data[task])
    whole = whole_stream(cfg, task)
    assert len({name for batch in whole for name, *_ in batch}) > 2
    loader = build(cfg, workers)  # its workers go on from one pass to the next
    for done in range(len(whole)):
        disturb()
        rest = stream(loader, done, task)
        # An endless loader is asked for one batch past the pass it starts in.
        count = len(whole) - done if task == 'detection' else min(4, len(whole) - done)
        assert [next(rest) for _ in range(count)] == whole[done : done + count], done
        if task == 'detection':
            assert next(rest, None) is None


def test_epochs_differ_and_so_do_copies(data):
    from a2mim.datasets import SampleKey

    dataset = build(prepared('segmentation', data['segmentation'])).dataset
    images = [
        dataset[key]['inputs'].numpy().tobytes()
        for key in (SampleKey(0, 0), SampleKey(0, 1), SampleKey(0, 0, 1), SampleKey(0, 0))
    ]
    assert images[0] == images[3]
    assert len(set(images)) == 3


def test_a_sample_leaves_the_generators_as_they_were(data):
    dataset = build(prepared('detection', data['detection'])).dataset
    states = []
    for _ in range(2):
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        if not states:
            dataset[0]
        states.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert states[0] == states[1]


@pytest.mark.parametrize('task', TASKS)
def test_two_processes_share_the_images_and_start_anywhere(task, data, monkeypatch):
    cfg = prepared(task, data[task])
    alone = {(name, pixels) for batch in whole_stream(cfg, task) for name, _, pixels, *_ in batch}
    seen = []
    for rank in range(2):
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, 2))
        batches = stream(build(cfg), 0, task)
        first = [next(batches) for _ in range(BATCHES // 2)]
        for done in range(len(first)):
            assert next(stream(build(cfg), done, task)) == first[done]
        seen += [(name, pixels) for batch in first for name, _, pixels, *_ in batch]
    assert len(seen) == IMAGES
    assert set(seen) <= alone


class Losses(Hook):
    """Write down the loss of each iteration."""

    def __init__(self) -> None:
        self.of: dict[int, float] = {}

    def after_train_iter(self, runner: Runner, *args: object, outputs: dict, **kwargs: object):
        self.of[runner.iter + 1] = outputs['loss'].item()


def run(
    cfg: Config, work_dir: Path, saves: tuple[int, ...] = (), resume: Path | None = None
) -> tuple[dict, dict[int, float]]:
    """Train; return the state at the end and the loss of each iteration."""
    from a2mim.engine.launch import unique_name
    from a2mim.engine.runner import ToolRunner
    from a2mim.transfer.launch import use_own_parts

    cfg = cfg.copy()
    by_epoch = 'max_epochs' in cfg.train_cfg
    cfg.train_cfg = (
        dict(type='a2mim.EpochBasedTrainLoop', max_epochs=2)
        if by_epoch
        else dict(type='a2mim.IterBasedTrainLoop', max_iters=8)
    )
    cfg.default_hooks.checkpoint = dict(
        type='a2mim.CheckpointHook', interval=100, by_epoch=by_epoch, max_keep_ckpts=-1
    )
    cfg.custom_hooks = [dict(type='a2mim.StepSeedHook'), dict(type='a2mim.BadImagesHook')]
    cfg.work_dir, cfg.experiment_name = str(work_dir), unique_name(work_dir.name)
    cfg.visualizer.name = cfg.experiment_name
    if resume:
        cfg.resume, cfg.load_from = True, str(resume)
    use_own_parts(cfg)
    disturb()
    runner, losses = ToolRunner.from_cfg(cfg), Losses()
    runner.register_hook(SaveAt(saves))
    runner.register_hook(losses)
    disturb()
    runner.train()
    return state(runner), losses.of


# A batch of the first pass through the images, and one of the second.
@pytest.mark.parametrize(('task', 'done'), [('segmentation', 3), ('detection', 8)])
def test_a_run_saved_within_an_epoch_resumes_bit_for_bit_over_a_bad_image(
    task, done, damaged, tmp_path
):
    cfg = prepared(task, damaged[task])
    whole, losses = run(cfg, tmp_path / 'whole', saves=(done,))
    assert len(losses) == (2 * BATCHES if task == 'detection' else 8)
    (file,) = (tmp_path / 'whole').glob(f'*iter_{done}.pth')
    resumed, later = run(cfg, tmp_path / 'resumed', resume=file)
    assert later == {step: loss for step, loss in losses.items() if step > done}
    assert differing(resumed, whole) == []
    bad = [str(image_files(task, damaged[task])[BAD])]
    assert listed(tmp_path / 'whole') == listed(tmp_path / 'resumed') == bad


def listed(work_dir: Path) -> list[str]:
    return (work_dir / 'bad_files.txt').read_text().splitlines()


@pytest.mark.parametrize('task', TASKS)
def test_a_bad_image_is_replaced_by_one_of_the_others(task, damaged, data):
    bad = str(image_files(task, damaged[task])[BAD])
    seen = [entry for batch in whole_stream(prepared(task, damaged[task]), task) for entry in batch]
    assert bad not in [name for name, *_ in seen]
    assert {unreadable for *_, unreadable in seen} == {-1, BAD}
    # Nothing else is another: a replacement leaves the other samples alone.
    good = [entry for batch in whole_stream(prepared(task, data[task]), task) for entry in batch]
    assert [entry[2] for entry in seen if entry[-1] < 0] == [
        entry[2] for entry, mine in zip(good, seen, strict=True) if mine[-1] < 0
    ]


@pytest.mark.parametrize('workers', [0, 1])
def test_a_bad_image_ends_a_strict_run(workers, damaged):
    from a2mim.errors import BadDataError

    cfg = prepared('segmentation', damaged['segmentation'])
    cfg.train_dataloader.dataset.on_bad_image = 'raise'
    name = image_files('segmentation', damaged['segmentation'])[BAD].name
    with pytest.raises(BadDataError, match=f'LoadImageFromFile cannot load .*{name}'):
        for _ in build(cfg, workers):
            pass


def test_a_bad_label_map_counts_as_its_image(data, tmp_path):
    root = Path(shutil.copytree(data['segmentation'], tmp_path / 'data'))
    truncate(sorted((root / 'annotations/training').glob('*.png'))[BAD])
    dataset = build(prepared('segmentation', root)).dataset
    sample = dataset[BAD]
    assert sample['unreadable'] == BAD
    assert sample['data_samples'].img_path != dataset.name(BAD)


def test_an_image_that_stands_for_an_empty_crop_may_be_bad_too(damaged):
    """Every draw finds an image whose own crop is fine, or draws anew."""
    from a2mim.datasets import SampleKey

    cfg = prepared('detection', damaged['detection'])
    dataset = build(cfg).dataset
    for epoch in range(20):
        for index in (index for index in range(IMAGES) if index != BAD):
            assert dataset[SampleKey(index, epoch)]['unreadable'] == -1


def repeat(dataset: dict) -> dict:
    return dict(type='RepeatDataset', times=2, dataset=dataset)


def concatenate(dataset: dict) -> dict:
    return dict(type='ConcatDataset', datasets=[dataset, dataset])


def balance(dataset: dict) -> dict:
    return dict(type='ClassBalancedDataset', oversample_thr=0.9, dataset=dataset)


@pytest.mark.parametrize('wrap', [repeat, concatenate, balance])
def test_wrapped_data_sets_are_seeded_as_a_whole(wrap, damaged):
    from a2mim.transfer.data import prepare_data

    cfg = unprepared('detection', damaged['detection'])
    cfg.train_dataloader.dataset = wrap(cfg.train_dataloader.dataset)
    assert prepare_data(cfg) is None
    loader = build(cfg)
    assert loader.dataset.metainfo['classes']
    batches = [*stream(loader, 0, 'detection')]
    bad = {key for batch in batches for *_, key in batch if key >= 0}
    names = {loader.dataset.name(index) for index in bad}
    assert names == {str(image_files('detection', damaged['detection'])[BAD])}
    for done in (1, len(batches) - 1):
        assert [*stream(build(cfg), done, 'detection')] == batches[done:]


@pytest.mark.parametrize(
    ('changes', 'named'),
    [
        ({'train_dataloader.dataset.type': 'MultiImageMixDataset'}, 'MultiImageMixDataset'),
        ({'train_dataloader.dataset.pipeline.2.type': 'mmdet.CachedMosaic'}, 'CachedMosaic'),
        ({'train_dataloader.sampler.type': 'ClassAwareSampler'}, 'ClassAwareSampler'),
        ({'train_dataloader.batch_sampler.type': 'TrackBatches'}, 'TrackBatches'),
        ({'model.data_preprocessor.type': 'TrackDataPreprocessor'}, 'TrackDataPreprocessor'),
        ({'custom_hooks': [dict(type='PipelineSwitchHook')]}, 'PipelineSwitchHook'),
    ],
)
def test_what_cannot_be_resumed_exactly_stays_and_is_named(changes, named, data):
    from a2mim.transfer.data import prepare_data

    cfg = unprepared('detection', data['detection'])
    cfg.merge_from_dict(changes)
    before = cfg.to_dict()
    assert named in prepare_data(cfg)
    assert cfg.to_dict() == before


def test_every_published_config_is_prepared():
    from a2mim.transfer.data import WRAPPER, prepare_data

    files = [*shrunk_detector.CONFIGS.glob('*.py'), *shrunk_segmentor.CONFIGS.glob('*.py')]
    assert len(files) > 10
    for file in files:
        cfg = Config.fromfile(file)
        assert prepare_data(cfg) is None, file.stem
        assert cfg.train_dataloader.dataset.type == WRAPPER


def test_a_prepared_config_is_prepared_once(data):
    from a2mim.transfer.data import prepare_data

    cfg = prepared('detection', data['detection'])
    before = cfg.to_dict()
    assert prepare_data(cfg) is None
    assert cfg.to_dict() == before


def test_a_folder_of_images_that_is_away_is_waited_for_and_a_bad_file_is_not(tmp_path, monkeypatch):
    images = tmp_path / 'images'
    images.mkdir()
    for name in ('a.png', 'b.png'):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(images / name)
    waits = []

    def come_back(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            (tmp_path / 'away').rename(images)

    monkeypatch.setattr(storage.time, 'sleep', come_back)
    load = CheckedLoading(dict(type='mmcv.LoadImageFromFile'))
    images.rename(tmp_path / 'away')
    assert load(dict(img_path=str(images / 'a.png')))['img_shape'] == (8, 8)
    assert len(waits) == 2
    (images / 'a.png').write_bytes(b'no image')
    for name in ('a.png', 'missing.png'):
        with pytest.raises(BadFileError, match=name):
            load(dict(img_path=str(images / name)))
    images.rename(tmp_path / 'away')
    load.storage.patience = 0
    with pytest.raises(StorageError, match=f"storage of '{images}' does not answer"):
        load(dict(img_path=str(images / 'a.png')))
    assert len(waits) == 2
