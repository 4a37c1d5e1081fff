"""Folders and lists of image files."""

import numpy as np
import pytest
from PIL import Image

from a2mim.datasets.image_files import draw_per_class
from a2mim.registry import DATASETS


def paint(path, level: int) -> None:
    """Write an image of one grey level, by which it is recognised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 8, 3), level, np.uint8)).save(path)


def folder(root, **options: object):
    return DATASETS.build({'type': 'ImageFolder', 'root': str(root), **options})


def image_list(path, root, **options: object):
    return DATASETS.build(
        {'type': 'ImageList', 'list_file': str(path), 'root': str(root), **options}
    )


def levels(source) -> list[int]:
    return [int(source.load(index)[0, 0, 0]) for index in range(len(source))]


@pytest.fixture
def classes(tmp_path):
    """Class folders 'a cat' (levels 10, 11, …) and 'dog' (20, 21, …) with four images each."""
    for number in range(4):
        paint(tmp_path / 'a cat' / 'deeper' / f'{number}.png', 10 + number)
        paint(tmp_path / 'dog' / f'{number}.PNG', 20 + number)
    return tmp_path


def test_a_flat_folder_is_read_in_order_of_names(tmp_path):
    for name, level in (('b.png', 2), ('a.png', 1), ('c d.png', 3)):
        paint(tmp_path / name, level)
    source = folder(tmp_path)
    assert levels(source) == [1, 2, 3]
    assert source.label(0) is None
    assert source.classes == ()


def test_a_nested_folder_is_read_whole(classes):
    paint(classes / 'loose.png', 30)
    assert levels(folder(classes)) == [10, 11, 12, 13, 20, 21, 22, 23, 30]


def test_hidden_and_foreign_files_are_left_out(tmp_path):
    paint(tmp_path / 'a.png', 1)
    paint(tmp_path / '._a.png', 2)
    paint(tmp_path / '.cache' / 'b.png', 3)
    (tmp_path / 'notes.txt').write_text('not an image')
    assert levels(folder(tmp_path)) == [1]


def test_links_to_folders_are_followed(tmp_path):
    paint(tmp_path / 'elsewhere' / 'a.png', 1)
    (tmp_path / 'root').mkdir()
    (tmp_path / 'root' / 'link').symlink_to(tmp_path / 'elsewhere')
    assert levels(folder(tmp_path / 'root')) == [1]


def link(place, target) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


LOOPS = {
    'to itself': [('self', '.')],
    'twice to itself': [('self', '.'), ('dog/again', '..')],
    'to each other': [('a cat/dogs', '../dog'), ('dog/cats', '../a cat')],
    'to a folder above': [('dog/up', '../..'), ('dog/deeper/top', '/')],
    'to a folder beside': [('0/all', '../a cat'), ('z', 'dog')],
}


@pytest.mark.parametrize('links', LOOPS.values(), ids=LOOPS)
def test_each_image_of_folders_with_links_among_them_is_read_once(classes, links, logged):
    paint(classes.parent / 'sibling.png', 99)
    for place, target in links:
        link(classes / place, target)
    source = folder(classes)
    assert levels(source) == [10, 11, 12, 13, 20, 21, 22, 23]
    assert not any(place in source.name(index) for place, _ in links for index in range(8))
    said = [line for line in logged.messages if 'links to folders' in line]
    assert len(said) == 1
    assert all(repr(place) in said[0] for place, _ in links)


def test_many_links_among_many_folders_end_at_once(tmp_path):
    for number in range(12):
        paint(tmp_path / f'{number:02}' / 'a.png', number)
    for one in range(12):
        for other in range(12):
            link(tmp_path / f'{one:02}' / f'to {other}', f'../{other:02}')
    assert levels(folder(tmp_path)) == list(range(12))


def test_a_link_to_a_folder_outside_is_read_with_links_in_it(tmp_path):
    paint(tmp_path / 'elsewhere' / 'a.png', 1)
    paint(tmp_path / 'further' / 'b.png', 2)
    paint(tmp_path / 'root' / 'c.png', 3)
    link(tmp_path / 'elsewhere' / 'on', '../further')
    link(tmp_path / 'elsewhere' / 'back', '../root')
    link(tmp_path / 'root' / 'out', '../elsewhere')
    link(tmp_path / 'root' / 'second', '../elsewhere')
    assert levels(folder(tmp_path / 'root')) == [3, 1, 2]


def test_a_link_that_is_left_out_is_no_class(classes):
    link(classes / 'self', '.')
    assert folder(classes, with_labels=True).classes == ('a cat', 'dog')


def test_files_that_are_not_looked_for_are_counted_and_named_once(classes, logged):
    for name in ('b.PDF', 'a.pdf', '.hidden.pdf', 'dog/readme', 'deep/er/notes.txt'):
        (classes / name).parent.mkdir(parents=True, exist_ok=True)
        (classes / name).touch()
    for _ in range(2):
        folder(classes)
    (said,) = [line for line in logged.messages if 'files are left out' in line]
    assert '4 files are left out' in said
    assert "no suffix (1, such as 'dog/readme'), .pdf (2, such as 'a.pdf'), .txt (1, such" in said


def test_class_folders_are_numbered_by_name(classes):
    source = folder(classes, with_labels=True)
    assert source.classes == ('a cat', 'dog')
    assert [source.label(index) for index in range(8)] == [0, 0, 0, 0, 1, 1, 1, 1]


def drawn(classes, labels_per_class: int, seed: int | None) -> list[int]:
    options = {'labels_per_class': labels_per_class, 'seed': seed}
    return levels(folder(classes, with_labels=True, **options))


def test_few_labels_are_drawn_of_each_class_by_the_seed(classes):
    draws = [drawn(classes, 2, seed) for seed in range(20)]
    assert len({tuple(draw) for draw in draws}) > 5
    assert {level for draw in draws for level in draw} == {*range(10, 14), *range(20, 24)}
    assert all([level // 10 for level in draw] == [1, 1, 2, 2] for draw in draws)
    assert drawn(classes, 2, 7) == draws[7]
    assert drawn(classes, 2, None) == draws[0]
    assert drawn(classes, 4, 3) == [10, 11, 12, 13, 20, 21, 22, 23]


@pytest.mark.parametrize('per_class', [1, 2, 3, 5, 6])
def test_every_image_is_drawn_as_often_and_neighbours_rarely(per_class):
    labels = np.repeat([3, 1, 7], 6)[np.random.default_rng(0).permutation(18)]
    draws = [draw_per_class(labels, per_class, seed) for seed in range(600)]
    often = np.bincount(np.concatenate(draws), minlength=18) / 600
    np.testing.assert_allclose(often, per_class / 6, atol=0.08)
    ring = [np.flatnonzero(np.isin(np.flatnonzero(labels == 1), draw)) for draw in draws]
    gaps = np.array([np.diff([*places, places[0] + 6]) for places in ring])
    assert gaps.min() >= 1
    assert gaps.max() <= 2 * np.ceil(6 / per_class)


@pytest.mark.parametrize(
    ('options', 'kind', 'message'),
    [
        ({'labels_per_class': 0}, ValueError, 'labels_per_class=0 must be at least 1, or None'),
        ({'labels_per_class': 2.5}, TypeError, r'labels_per_class=2\.5 must be a whole number'),
        ({'labels_per_class': 1, 'seed': -1}, ValueError, 'seed=-1 must be at least 0, or None'),
        ({'labels_per_class': 1, 'seed': 'a'}, TypeError, "seed='a' must be a whole number"),
    ],
)
def test_a_draw_that_is_none_is_refused(classes, options, kind, message):
    with pytest.raises(kind, match=message):
        folder(classes, with_labels=True, **options)


def test_more_labels_than_images_are_refused(classes):
    with pytest.raises(ValueError, match='labels_per_class=5 is more than the 4 images of class'):
        folder(classes, with_labels=True, labels_per_class=5)


def test_few_labels_need_labels(classes):
    with pytest.raises(ValueError, match='labels_per_class=2 needs labels'):
        folder(classes, labels_per_class=2)


def test_grey_images_come_with_one_channel(classes):
    assert folder(classes, channels=1).load(0).shape == (1, 6, 8)


def test_large_jpegs_shrink_on_request(tmp_path):
    Image.new('RGB', (80, 60)).save(tmp_path / 'a.jpg')
    assert folder(tmp_path).load(0).shape == (3, 60, 80)
    assert folder(tmp_path, shrink_to=30).load(0).shape == (3, 30, 40)


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"root='.*nowhere' is not a folder"):
        folder(tmp_path / 'nowhere')


def test_a_folder_without_images_is_refused_with_the_endings_looked_for(tmp_path):
    (tmp_path / 'a.txt').touch()
    with pytest.raises(FileNotFoundError, match=r'no image in root=.*\.jpg \.jpeg \.png'):
        folder(tmp_path)


def test_images_beside_class_folders_are_refused(classes):
    paint(classes / 'loose.png', 30)
    with pytest.raises(ValueError, match=r"1 images .* 'loose\.png'; move them"):
        folder(classes, with_labels=True)


def test_an_empty_class_folder_is_refused(classes):
    (classes / 'empty').mkdir()
    with pytest.raises(ValueError, match=r"no image: \['empty'\]"):
        folder(classes, with_labels=True)


def test_a_damaged_file_is_named_with_its_index(classes):
    (classes / 'dog' / '2.PNG').write_bytes(b'not a picture')
    with pytest.raises(ValueError, match=r"image 6 of .*cannot read '.*dog/2\.PNG'.*repair"):
        folder(classes).load(6)


def test_a_list_gives_its_order_and_labels(classes):
    lines = 'dog/1.PNG 1\na cat/deeper/0.png 0\n\ndog/0.PNG 1\n'
    (classes / 'list.txt').write_text(lines)
    source = image_list(classes / 'list.txt', classes)
    assert levels(source) == [21, 10, 20]
    assert [source.label(index) for index in range(3)] == [1, 0, 1]
    assert source.classes == ('0', '1')


def test_a_list_may_have_no_labels(classes):
    (classes / 'list.txt').write_text('dog/1.PNG\na cat/deeper/0.png\n')
    source = image_list(classes / 'list.txt', classes)
    assert levels(source) == [21, 10]
    assert source.label(0) is None


def test_few_labels_of_a_list(classes):
    lines = [f'dog/{n}.PNG 1' for n in range(4)] + [f'a cat/deeper/{n}.png 0' for n in range(4)]
    (classes / 'list.txt').write_text('\n'.join(lines))
    options = {'labels_per_class': 1}
    draws = [levels(image_list(classes / 'list.txt', classes, seed=s, **options)) for s in range(9)]
    assert len({tuple(draw) for draw in draws}) > 2
    assert all([level // 10 for level in draw] == [2, 1] for draw in draws)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"list_file='.*list\.txt' does not exist"):
        image_list(tmp_path / 'list.txt', tmp_path)


def test_an_empty_list_is_refused(tmp_path):
    (tmp_path / 'list.txt').write_text('\n\n')
    with pytest.raises(ValueError, match='has no entry; write one "path'):
        image_list(tmp_path / 'list.txt', tmp_path)


def test_a_list_with_some_labels_is_refused(classes):
    (classes / 'list.txt').write_text('dog/1.PNG 1\ndog/2.PNG\n')
    with pytest.raises(ValueError, match=r"1 of 2 lines but not for 'dog/2\.PNG'"):
        image_list(classes / 'list.txt', classes)


def test_a_list_for_another_folder_is_refused(classes):
    (classes / 'list.txt').write_text('train/1.png 1\n')
    with pytest.raises(FileNotFoundError, match=r"'train/1\.png', the first entry of .*root="):
        image_list(classes / 'list.txt', classes)
