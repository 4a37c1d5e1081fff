"""Generated shapes: annotations match the images, and equal options give equal files."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.draw import polygon2mask

from a2mim.datasets import PhotoPatches
from toy_run import load_tool

pytestmark = pytest.mark.integration

tool = load_tool('prepare_data/make_shapes')
SIZE = 64


def write(root: Path, kind: str, seed: int = 0) -> Path:
    numbers = ['--images', '4', '--val', '2', '--size', str(SIZE), '--seed', str(seed)]
    tool.main([str(root), '--format', kind, *numbers])
    return root


@pytest.fixture(scope='module')
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp('shapes') / 'coco', 'coco')


@pytest.fixture(scope='module')
def ade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp('shapes') / 'ade', 'ade')


def labels(root: Path) -> dict[str, dict]:
    """The annotations of both splits."""
    return {
        split: json.loads((root / f'annotations/instances_{split}2017.json').read_text())
        for split in ('train', 'val')
    }


def outlines(root: Path) -> list[tuple[dict, np.ndarray]]:
    """Every annotation with its polygon, (V, 2), x and y."""
    return [
        (annotation, np.array(annotation['segmentation'][0]).reshape(-1, 2))
        for content in labels(root).values()
        for annotation in content['annotations']
    ]


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob('*') if path.is_file())
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


@pytest.mark.parametrize('kind', ['coco', 'ade'])
def test_equal_options_give_equal_files(kind, coco, ade, tmp_path):
    first = contents({'coco': coco, 'ade': ade}[kind])
    assert contents(write(tmp_path / 'again', kind)) == first
    assert contents(write(tmp_path / 'other', kind, seed=1)) != first


def test_both_formats_have_the_same_images(coco, ade):
    for number in range(1, 5):
        first = coco / f'train2017/{number:012d}.jpg'
        second = ade / f'images/training/ADE_train_{number:08d}.jpg'
        assert first.read_bytes() == second.read_bytes()


def test_every_image_of_coco_is_there_with_its_size(coco):
    for split, content in labels(coco).items():
        assert len(content['images']) == {'train': 4, 'val': 2}[split]
        for entry in content['images']:
            with Image.open(coco / f'{split}2017' / entry['file_name']) as image:
                assert image.size == (entry['width'], entry['height']) == (SIZE, SIZE)


def test_numbers_are_unique_and_point_to_images_and_categories(coco):
    for content in labels(coco).values():
        numbers = [annotation['id'] for annotation in content['annotations']]
        assert len({*numbers}) == len(numbers)
        images = {entry['id'] for entry in content['images']}
        assert {annotation['image_id'] for annotation in content['annotations']} == images


def test_two_images_in_a_row_show_each_class_once(coco):
    for content in labels(coco).values():
        names = {category['id']: category['name'] for category in content['categories']}
        assert [*names.values()] == ['circle', 'square', 'triangle', 'star', 'cross', 'arrow']
        pairs = Counter(
            ((annotation['image_id'] - 1) // 2, annotation['category_id'])
            for annotation in content['annotations']
        )
        assert len(pairs) == len(content['images']) // 2 * len(names)
        assert {*pairs.values()} == {1}


def test_a_box_is_the_extent_of_its_polygon_inside_the_image(coco):
    for annotation, outline in outlines(coco):
        left, top, width, height = annotation['bbox']
        low, high = outline.min(axis=0), outline.max(axis=0)
        assert low == pytest.approx([left, top], abs=0.01)
        assert high == pytest.approx([left + width, top + height], abs=0.02)
        assert low.min() >= 0
        assert high.max() <= SIZE


def test_an_area_is_the_number_of_pixels_inside_the_polygon(coco):
    for annotation, outline in outlines(coco):
        # Ten points per pixel and axis, by the rule of even and odd.
        fine = polygon2mask((10 * SIZE, 10 * SIZE), outline[:, ::-1] * 10 - 0.5)
        assert fine.sum() / 100 == pytest.approx(annotation['area'], rel=0.01)


def test_shapes_of_an_image_do_not_touch():
    for split, number in (('train', 4), ('val', 2)):
        for _, shapes in tool.scenes(split, number, SIZE, 0):
            covered = sum((shape.coverage > 0).astype(int) for shape in shapes)
            assert len(shapes) == 3
            assert covered.max() == 1


def test_a_label_map_and_the_polygons_show_the_same_shapes(coco, ade):
    content = labels(coco)['train']
    for entry in content['images']:
        path = ade / f'annotations/training/ADE_train_{entry["id"]:08d}.png'
        with Image.open(path) as image:
            found = np.array(image)
        assert found.shape == (SIZE, SIZE)
        assert found.dtype == np.uint8
        free = found == 1
        for annotation in content['annotations']:
            if annotation['image_id'] != entry['id']:
                continue
            outline = np.array(annotation['segmentation'][0]).reshape(-1, 2)
            inside = polygon2mask((SIZE, SIZE), outline[:, ::-1] - 0.5)
            # 1 is the photograph; what an edge cuts is no class.
            assert {*np.unique(found[inside])} <= {0, annotation['category_id'] + 1}
            assert (found[inside] != 0).mean() > 0.4
            free |= inside
        assert np.isin(found[~free], [0]).all()


def test_the_class_names_are_next_to_the_label_maps(ade):
    names = (ade / 'classes.txt').read_text(encoding='utf-8').split()
    assert names == ['photograph', 'circle', 'square', 'triangle', 'star', 'cross', 'arrow']


def test_validation_shows_regions_of_photographs_that_training_does_not():
    places = [
        {(int(photo), int(top) // 120, int(left) // 120) for photo, top, left in photos.patches}
        for photos in (PhotoPatches(split, patch_size=tool.PATCH) for split in ('train', 'val'))
    ]
    assert not places[0] & places[1]


def test_a_shape_stands_out_from_its_photograph_by_its_colour(coco):
    (image, shapes), *_ = tool.scenes('train', 1, SIZE, 0)
    for shape in shapes:
        inside = image[shape.coverage == 1]
        assert inside.std(axis=0).max() < 80
        assert len(np.unique(inside, axis=0)) > 3, 'a flat colour has no texture'


def test_a_colour_of_a_class_changes_nothing_but_the_colour():
    random, (image, shapes) = (
        next(tool.scenes('train', 1, SIZE, 0, class_colours=colours)) for colours in (False, True)
    )
    outside = sum(shape.coverage for shape in shapes) == 0
    assert (image[outside] == random[0][outside]).all()
    for shape in shapes:
        # Seven parts of the colour of the class and three of a texture in [0, 255].
        mean = image[shape.coverage == 1].mean(axis=0)
        low = 0.7 * (tool.HUES[shape.name] - tool.SPREAD)
        high = 0.7 * (tool.HUES[shape.name] + tool.SPREAD) + 0.3 * 255
        assert (mean >= low.clip(0)).all()
        assert (mean <= high).all()


@pytest.mark.parametrize(
    ('option', 'value'), [('--images', '0'), ('--val', '0'), ('--size', '31'), ('--seed', '-1')]
)
def test_a_number_that_is_too_small_is_refused(tmp_path, option, value):
    with pytest.raises(ValueError, match=f'{option} {value} must be at least'):
        tool.main([str(tmp_path / 'a'), '--format', 'coco', option, value])


def test_a_folder_that_holds_files_is_not_mixed_with_others(coco):
    with pytest.raises(ValueError, match='is not empty'):
        tool.main([str(coco), '--format', 'coco'])
