"""Data that contradict the config of a detector or segmentor are refused before the first step."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine import Config
from mmengine.registry import DefaultScope
from PIL import Image

import shrunk_detector
import shrunk_segmentor

pytestmark = [pytest.mark.transfer, pytest.mark.filterwarnings('default')]
DETECTOR = shrunk_detector.CONFIGS / 'mask-rcnn_r50_fpn_ms-1x_coco.py'
C4 = shrunk_detector.CONFIGS / 'mask-rcnn_r50-c4_ms-1x_coco.py'
SEGMENTOR = shrunk_segmentor.CONFIGS / 'upernet_r50_4xb4-160k_ade20k-512x512.py'
TRAIN, VAL = 'annotations/instances_train2017.json', 'annotations/instances_val2017.json'
SIZE = 24


@pytest.fixture
def coco(tmp_path: Path) -> Callable[..., Path]:
    """Writes images of ``categories`` in COCO's format; ids are neither consecutive nor sorted."""

    def write(categories: list[str], **changes: object) -> Path:
        ids = [17 - 3 * index for index in range(len(categories))]
        for file, folder in ((TRAIN, 'train2017'), (VAL, 'val2017')):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / file).parent.mkdir(exist_ok=True)
            images = [
                dict(id=number, file_name=f'{number}.png', width=SIZE, height=SIZE)
                for number in range(3)
            ]
            for image in images:
                Image.new('RGB', (SIZE, SIZE)).save(tmp_path / folder / image['file_name'])
            corners = [[2, 2, 9, 2, 9, 9, 2, 9]]
            boxes = dict(bbox=[2, 2, 7, 7], area=49, iscrowd=0, segmentation=corners)
            content = dict(
                images=images,
                categories=[
                    dict(id=one, name=name) for one, name in zip(ids, categories, strict=True)
                ],
                annotations=[
                    dict(id=number, image_id=number, category_id=ids[number % len(ids)], **boxes)
                    for number in range(3)
                ],
            )
            content.update(changes)
            (tmp_path / file).write_text(json.dumps(content))
        return tmp_path

    return write


def detector(root: Path, classes: str | None, count: int, config: Path = DETECTOR) -> Config:
    heads = ('bbox_head', 'mask_head')
    options = [f'model.roi_head.{head}.num_classes={count}' for head in heads]
    for split in ('train', 'val', 'test'):
        options.append(f'{split}_dataloader.dataset.data_root={root}/')
        if classes is not None:
            options.append(f'{split}_dataloader.dataset.metainfo.classes={classes}')
    return loaded(config, options)


def loaded(config: Path, options: list[str]) -> Config:
    """A config as a training has it when the data are checked."""
    from a2mim.transfer.data import prepare_data
    from a2mim.transfer.launch import _load_config, parse_train_args

    cfg = _load_config(parse_train_args([str(config), 'none', *options]))
    prepare_data(cfg)
    return cfg


def check(cfg: Config, *splits: str) -> None:
    from a2mim.transfer.data_check import check_data

    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        check_data(cfg, splits or ('train', 'val'))


def refusal(cfg: Config, *splits: str) -> str:
    """The message of the refusal, one line."""
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        check(cfg, *splits)
    assert '\n' not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize('config', [DETECTOR, C4], ids=['fpn', 'c4'])
@pytest.mark.parametrize(
    ('categories', 'classes'),
    [
        (['crack'], '[crack]'),
        (['crack'], 'crack'),
        (['cat', 'dog', 'bird'], 'cat,dog,bird'),
        (['cat', 'dog', 'bird'], 'dog'),  # some of the categories
        (['cat', 'dog', 'bird'], 'cat,bird'),
    ],
)
def test_classes_of_the_file_pass(coco, config, categories, classes):
    check(detector(coco(categories), classes, len(classes.split(',')), config))


@pytest.mark.parametrize(
    ('categories', 'classes', 'count', 'told'),
    [
        (['crack'], None, 80, ['person', 'crack', 'num_classes=1', 'classes=[crack]']),
        (['crack'], 'cracks', 1, ['cracks', 'are crack', 'classes=[crack]']),
        (['crack'], 'firecracker', 1, ['firecracker', 'are crack']),
        (['cracks'], 'crack', 1, ['has crack,', 'are cracks']),
        (['crack'], '[cracks]', 1, ['cracks', 'are crack']),
        (['cat', 'dog'], 'cat,dgo', 2, ['dgo', 'cat, dog']),
        (['cat', 'dog', 'bird'], 'bird,cat', 2, ['bird, cat', 'classes=[cat,bird]']),
        (['crack'], 'crack', 80, ['num_classes=80', 'has 1', 'bbox_head.num_classes=1']),
        (['cat', 'dog'], 'cat,dog', 1, ['num_classes=1', 'mask_head.num_classes=2']),
        (['cat', 'cat'], 'cat', 1, ['cat, cat']),
    ],
)
def test_classes_that_the_file_lacks_are_refused(coco, categories, classes, count, told):
    root = coco(categories)
    message = refusal(detector(root, classes, count))
    assert all(part in message for part in told), message
    assert f'{root}/{TRAIN}' in message or 'num_classes' in told[0]


def test_the_validation_file_is_checked_too(coco):
    root = coco(['cat', 'dog'])
    content = json.loads((root / VAL).read_text())
    content['categories'].reverse()
    (root / VAL).write_text(json.dumps(content))
    cfg = detector(root, 'cat,dog', 2)
    assert VAL in refusal(cfg)
    assert VAL in refusal(cfg, 'test')
    check(cfg, 'train')


def test_a_label_means_one_class_in_training_and_validation(coco):
    cfg = detector(coco(['cat', 'dog']), 'cat,dog', 2)
    cfg.val_dataloader.dataset.metainfo.classes = ['cat']
    cfg.model.roi_head = {}
    assert 'val_dataloader.dataset.metainfo.classes are cat (1)' in refusal(cfg)


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        (dict(annotations=[]), ['0 annotations', 'nothing can be learned']),
        (dict(categories=[dict(id=1, name='crack')]), ['category_id 17', 'categories, 1:']),
    ],
)
def test_annotations_without_a_class_are_refused(coco, changes, told):
    root = coco(['crack'])
    (root / TRAIN).write_text(json.dumps({**json.loads((root / TRAIN).read_text()), **changes}))
    message = refusal(detector(root, 'crack', 1))
    assert all(part in message for part in [*told, TRAIN]), message


def test_boxes_alone_do_not_train_masks(coco):
    box = dict(id=0, image_id=0, category_id=17, bbox=[2, 2, 7, 7], area=49, iscrowd=0)
    cfg = detector(coco(['crack'], annotations=[box]), 'crack', 1)
    assert 'none of 1 annotations' in refusal(cfg)
    for step in cfg.train_dataloader.dataset.dataset.pipeline:
        step.get('load', step).pop('with_mask', None)
    check(cfg)


@pytest.mark.parametrize('content', ['no JSON', '[]', '{"images": []}', None])
def test_a_file_that_is_no_annotation_file_is_named(coco, content):
    root = coco(['crack'])
    (root / TRAIN).write_text(content) if content else (root / TRAIN).unlink()
    assert f'train_dataloader.dataset.ann_file={root}/{TRAIN}' in refusal(
        detector(root, 'crack', 1)
    )


def test_wrapped_data_sets_are_checked(coco):
    cfg = detector(coco(['crack']), 'cracks', 1)
    inner = cfg.train_dataloader.dataset.dataset
    cfg.train_dataloader.dataset.dataset = dict(
        type='ConcatDataset', datasets=[dict(type='RepeatDataset', times=2, dataset=inner)]
    )
    message = refusal(cfg, 'train')
    assert 'train_dataloader.dataset.datasets.0.dataset.metainfo.classes' in message


def write_voc(root: Path, names: list[str]) -> None:
    """Images in PASCAL VOC's format."""
    for folder in ('Annotations', 'ImageSets/Main', 'JPEGImages'):
        (root / folder).mkdir(parents=True)
    for name in names:
        Image.new('RGB', (SIZE, SIZE)).save(root / f'JPEGImages/{name}.jpg')
        box = ''.join(
            f'<{side}>{value}</{side}>'
            for side, value in dict(xmin=2, ymin=2, xmax=9, ymax=9).items()
        )
        (root / f'Annotations/{name}.xml').write_text(
            f'<annotation><size><width>{SIZE}</width><height>{SIZE}</height></size>'
            f'<object><name>{name}</name><bndbox>{box}</bndbox></object></annotation>'
        )
    (root / 'ImageSets/Main/all.txt').write_text('\n'.join(names))


@pytest.mark.parametrize(
    ('classes', 'count', 'told'),
    [
        (['cat', 'dog'], 2, None),
        (['dog'], 1, None),
        (None, 20, None),  # VOC's own names, of which the images have two
        (['cats'], 1, 'cat, dog'),
        (['cat', 'dog'], 20, 'num_classes=20'),
    ],
)
def test_names_in_xml_files_are_compared(coco, tmp_path, classes, count, told):
    write_voc(tmp_path / 'voc', ['cat', 'dog'])
    cfg = detector(coco(['crack']), None, count)
    cfg.train_dataloader.dataset.dataset = dict(
        type='VOCDataset',
        data_root=str(tmp_path / 'voc'),
        ann_file='ImageSets/Main/all.txt',
        data_prefix=dict(sub_data_root=''),
        pipeline=[],
        **(dict(metainfo=dict(classes=classes)) if classes else {}),
    )
    if told is None:
        check(cfg, 'train')
    else:
        assert told in refusal(cfg, 'train')


def write_masks(root: Path, masks: list[np.ndarray], mode: str | None = None) -> Path:
    for split in ('training', 'validation'):
        for folder in ('images', 'annotations'):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
        for index, mask in enumerate(masks):
            image = Image.new('RGB', mask.shape[1::-1])
            image.save(root / f'images/{split}/{index}.jpg')
            stored = Image.fromarray(mask)
            if mode == 'P':
                stored = Image.frombytes('P', stored.size, mask.tobytes())
                stored.putpalette([7, 0, 0, 0, 9, 0] * 128)
            stored.save(root / f'annotations/{split}/{index}.png')
    return root


def squares(*labels: int, dtype: type = np.uint8, images: int = 3) -> list[np.ndarray]:
    """Masks of vertical stripes, one a label, of several sizes."""
    return [
        np.repeat(np.array(labels, dtype)[None, :], 8 + index, 0).repeat(8, 1)
        for index in range(images)
    ]


def segmentor(root: Path, count: int, reduce: bool = False, names: int | None = None) -> Config:
    classes = [f'class{index}' for index in range(count if names is None else names)]
    options = [f'model.{head}.num_classes={count}' for head in shrunk_segmentor.HEADS]
    for split in ('train', 'val', 'test'):
        options += [
            f'{split}_dataloader.dataset.type=BaseSegDataset',
            f'{split}_dataloader.dataset.img_suffix=.jpg',
            f'{split}_dataloader.dataset.seg_map_suffix=.png',
            f'{split}_dataloader.dataset.reduce_zero_label={reduce}',
            f'{split}_dataloader.dataset.data_root={root}',
            f'{split}_dataloader.dataset.metainfo.classes=[{",".join(classes)}]',
        ]
    steps = dict(train=1, val=2, test=2)
    options += [
        f'{split}_dataloader.dataset.pipeline.{step}.reduce_zero_label={reduce}'
        for split, step in steps.items()
    ]
    return loaded(SEGMENTOR, options)


@pytest.mark.parametrize('mode', [None, 'P'])
@pytest.mark.parametrize(
    ('labels', 'count', 'reduce'),
    [((0, 1), 2, False), ((0, 1, 255), 2, False), ((0, 1, 2), 2, True), ((2, 0), 4, False)],
)
def test_labels_of_the_classes_pass(tmp_path, labels, count, reduce, mode):
    check(segmentor(write_masks(tmp_path, squares(*labels), mode), count, reduce))


@pytest.mark.parametrize(
    ('masks', 'count', 'reduce', 'told'),
    [
        (squares(0, 255), 2, False, ['label 0', '255, which is ignored', 'two classes']),
        (squares(0, 255), 5, False, ['255, which is ignored']),
        (squares(0, 255), 2, True, ['no label', 'reduce_zero_label=False']),
        (squares(0, 1), 2, True, ['reduce_zero_label=False', '255, which is ignored']),
        (squares(0, 7), 2, False, ['labels 7', '0 to 1', 'num_classes']),
        (squares(0, 1, 254), 2, False, ['labels 254']),
        (squares(1, 2, 3), 3, False, ['labels 3', 'reduce_zero_label=True']),
        (squares(0, 1, 4), 3, True, ['labels 3', 'after reduce_zero_label']),
        ([np.stack([one] * 3, 2) for one in squares(0, 128)], 2, False, ['(0, 0, 0), (128, 128']),
        ([np.stack([one] * 4, 2) for one in squares(0, 1)], 2, False, ['4 channels']),
        (squares(0, 256, dtype=np.uint16), 2, False, ['0 to 256', '8 bits']),
    ],
)
def test_masks_without_labels_of_the_classes_are_refused(tmp_path, masks, count, reduce, told):
    root = write_masks(tmp_path, masks)
    message = refusal(segmentor(root, count, reduce))
    file = f'{root}/annotations/training/0.png'
    assert all(part in message for part in [*told, file]), message
    message = refusal(segmentor(root, count, reduce), 'test')
    assert f'{root}/annotations/validation/0.png' in message


def test_masks_of_background_alone_are_not_trained_on(tmp_path):
    cfg = segmentor(write_masks(tmp_path, squares(0)), 2)
    assert 'have the label 0;' in refusal(cfg)
    check(cfg, 'test')


def test_a_rare_class_is_looked_for_in_all_masks(tmp_path):
    masks = squares(0, 255, images=120)
    masks[61] = np.zeros_like(masks[61])
    masks[61][0, 0] = 1
    check(segmentor(write_masks(tmp_path, masks), 2), 'train')


def test_a_late_label_beyond_the_classes_is_found_in_the_last_mask(tmp_path):
    masks = squares(0, 1, images=70)
    masks[-1][0, 0] = 9
    message = refusal(segmentor(write_masks(tmp_path, masks), 2), 'train')
    assert 'labels 9' in message


@pytest.mark.parametrize('place', ['dataset', 'pipeline', 'val'])
def test_reduce_zero_label_in_one_place_only_is_refused(tmp_path, place):
    cfg = segmentor(write_masks(tmp_path, squares(0, 1, 2)), 3)
    train, val = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
    if place == 'dataset':
        train.reduce_zero_label = True
    elif place == 'pipeline':
        train.pipeline[1].load.reduce_zero_label = True
    else:
        val.reduce_zero_label = val.pipeline[2].load.reduce_zero_label = True
        cfg.model.decode_head.num_classes = cfg.model.auxiliary_head.num_classes = 3
    message = refusal(cfg)
    assert message.count('reduce_zero_label') >= 2
    assert (
        'val_dataloader' if place == 'val' else 'train_dataloader.dataset.pipeline.1'
    ) in message


def test_heads_for_other_classes_than_the_names_are_refused(tmp_path):
    root = write_masks(tmp_path, squares(0, 1))
    message = refusal(segmentor(root, 150, names=2))
    assert 'model.decode_head.num_classes=150' in message
    assert 'model.auxiliary_head.num_classes=2' in message


def test_one_score_tells_two_classes_apart(tmp_path):
    check(segmentor(write_masks(tmp_path, squares(0, 1)), 1, names=2))


def test_a_mask_of_another_size_than_its_image_is_refused(tmp_path):
    root = write_masks(tmp_path, squares(0, 1))
    Image.new('RGB', (9, 9)).save(root / 'images/training/1.jpg')
    message = refusal(segmentor(root, 2))
    assert 'training/1.png has 16x9' in message
    assert '9x9' in message


def test_a_bad_image_is_left_to_the_training_and_missing_masks_are_named(tmp_path):
    root = write_masks(tmp_path, squares(0, 1))
    (root / 'annotations/training/1.png').write_bytes(b'')
    check(segmentor(root, 2))
    for path in (root / 'annotations/training').iterdir():
        path.unlink()
    assert '3 of 3 masks' in refusal(segmentor(root, 2))


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_a_refusal_is_one_line_and_exit_code_2(coco, tmp_path, capsys, task):
    from a2mim.transfer import train

    if task == 'detection':
        root, config = coco(['crack']), DETECTOR
        options = [f'{split}_dataloader.dataset.data_root={root}/' for split in ('train', 'val')]
    else:
        root, config = write_masks(tmp_path / 'ade', squares(0, 255)), SEGMENTOR
        options = [f'{split}_dataloader.dataset.data_root={root}' for split in ('train', 'val')]
    with pytest.raises(SystemExit) as exit_info:
        train.main([str(config), 'none', *options, '--work-dir', str(tmp_path / 'work')])
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith('error: ')
    assert str(root) in lines[-1]
