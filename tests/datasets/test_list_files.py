"""List files as people write them: read, or refused with what was found and where."""

import pickle

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from a2mim.datasets import EpochSampler, channels_last_collate
from a2mim.datasets.list_files import MAX_CLASSES, Names, encoded, numbered_classes, read_list
from a2mim.registry import DATASETS

PATHS = ['a/00.jpg', 'b c/01.PNG', 'd,e/02.tif', '3 4/03 5.jpeg']
LABELS = [1, 0, 12, 3]


@pytest.fixture
def read(tmp_path):
    """A function from the text of a list to its paths and labels."""

    def read(text: str | bytes) -> tuple[list[str], list | None]:
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / 'list.txt').write_bytes(data)
        paths, labels = read_list(str(tmp_path / 'list.txt'))
        return paths, None if labels is None else labels.tolist()

    return read


def text(separator: str = ' ', end: str = '\n', head: str = '') -> str:
    pairs = zip(PATHS, LABELS, strict=True)
    return head + ''.join(f'{path}{separator}{label}{end}' for path, label in pairs)


@pytest.mark.parametrize('separator', [' ', '   ', '\t', ',', ', ', ';', ' , '])
@pytest.mark.parametrize('end', ['\n', '\r\n', '\r', ' \n\n'])
@pytest.mark.parametrize('head', ['', '\ufeff', 'path label\n', '\ufeff\nfilename,class\r\n'])
def test_a_list_of_any_form_is_read(read, separator, end, head):
    if end == '\r':
        head = head.replace('\r\n', '\r').replace('\n', '\r')
    assert read(text(separator, end, head)) == (PATHS, LABELS)


def test_a_header_is_named_in_the_log(read, logged):
    read(text(',', head='image,label\n'))
    assert "line 1, 'image,label', is read as a header" in logged.text


def test_quoted_fields_are_read(read):
    lines = '"a, b.jpg","1"\n"c.jpg",0\n'
    assert read(lines) == (['a, b.jpg', 'c.jpg'], [1, 0])


def test_names_without_a_suffix_have_one_label(read):
    assert read('img 1 4\nimg 2\t3\n') == (['img 1', 'img 2'], [4, 3])
    assert read('img,1,4\n') == (['img,1,4'], None)


def test_several_labels_are_padded_to_one_length(read):
    paths, labels = read('a.jpg,1,4\nb.jpg 2\nc.jpg,\nd.jpg\t0\t4\t1\n')
    assert paths == ['a.jpg', 'b.jpg', 'c.jpg', 'd.jpg']
    assert labels == [[1, 4, -1], [2, -1, -1], [-1, -1, -1], [0, 4, 1]]


@pytest.mark.parametrize(
    ('line', 'found'),
    [
        ('b.jpg -1', "'-1'"),
        ('b.jpg,1,-4', "'-4'"),
        ('b.jpg 40000000', "'40000000'"),
        (f'b.jpg\t{MAX_CLASSES}', f"'{MAX_CLASSES}'"),
        ('b.jpg ' + '9' * 5000, "'99999999999999999999'"),
        ('b 99999999999', "'99999999999'"),
        ('b.jpg 1.0', "'1.0'"),
        ('b.jpg,cat', "'cat'"),
        ('b.jpg \u00b2', "'\u00b2'"),
        ('b.jpg,1,1,0', 'repeats a label'),
        ('b' * 70_000, '70000 characters'),
    ],
)
@pytest.mark.parametrize('before', [0, 3])
def test_a_line_that_cannot_be_read_is_named_with_what_was_found(read, line, found, before):
    with pytest.raises(ValueError, match=rf'line {before + 1} of .*list\.txt.*{found}'):
        read('a.jpg 1\n' * before + line + '\na.jpg 1\n')


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        (text().encode('utf-16'), 'UTF-16'),
        (text().encode('utf-16-le'), 'UTF-16'),
        (b'path,cat,dog\na.jpg,1,0\nb.jpg,0,1\n', "line 1 .* 3 columns, 'path,cat,dog'"),
        (b'a.jpg,1,0\nb.jpg,0,1\n', 'gives every image all 2 classes'),
        (b'a.jpg 1\nb.jpg\n', "1 of 2 lines but not for 'b.jpg'"),
        (b'path label\nother\na.jpg 1\n', '1 of 3 lines'),
    ],
)
def test_a_table_that_is_no_list_is_refused(read, content, found):
    with pytest.raises(ValueError, match=found):
        read(content)


@pytest.mark.parametrize(
    ('labels', 'empty'),
    [
        ([1, 2, 3], 'of 4 classes these have no image: 0 (labels begin at 1'),
        ([0, 2, 7], 'of 8 classes these have no image: 1, 3, 4, 5, 6'),
        ([[1, 4], [3, -1]], 'of 5 classes these have no image: 0, 2'),
        ([0, 1, 1], None),
    ],
)
def test_classes_without_an_image_are_logged(logged, tmp_path, labels, empty):
    classes = numbered_classes(np.array(labels), str(tmp_path))
    assert classes == [str(number) for number in range(len(classes))]
    assert (empty in logged.text) if empty else not logged.text


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('\ufeffcat\n dog \n\n', None),
        ('cat\n', '1 different names in 1 lines, and the labels are of 2 classes'),
        ('cat\ncat\n', '1 different names in 2 lines'),
        (None, "names.txt' does not exist"),
    ],
)
def test_classes_of_a_list_have_the_names_of_a_file(images, tmp_path, text, message):
    names = tmp_path / 'names.txt'
    if text is not None:
        names.write_text(text)
    if message is None:
        found = images('a.png 0\nb.png 1\n', classes_file=str(names)).metainfo['classes']
        assert [*found] == ['cat', 'dog']
    else:
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            images('a.png 0\nb.png 1\n', classes_file=str(names))


@pytest.fixture
def images(tmp_path):
    """A function from the text of a list to a data set of its images, a.png to d.png."""
    for name in 'abcd':
        Image.new('RGB', (8, 8)).save(tmp_path / f'{name}.png')

    def images(text: str, **options: object):
        (tmp_path / 'list.txt').write_text(text)
        source = {'type': 'ImageList', 'list_file': str(tmp_path / 'list.txt'), **options}
        source['root'] = str(tmp_path)
        pipeline = [{'type': 'CenterCrop', 'size': 8}]
        return DATASETS.build({'type': 'ImageDataset', 'source': source, 'pipeline': pipeline})

    return images


@pytest.mark.parametrize('workers', [0, 2])
def test_several_labels_become_a_target_of_each_class(images, workers):
    data = images('a.png,1,4\nb.png,0\nc.png,\nd.png,4,0,1\n')
    sampler = EpochSampler(data, shuffle=False)
    options = dict(collate_fn=channels_last_collate, num_workers=workers)
    (batch,) = DataLoader(data, 4, sampler=sampler, **options)
    assert batch['label'].tolist() == [
        [0, 1, 0, 0, 1],
        [1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [1, 1, 0, 0, 1],
    ]
    assert data.metainfo['classes'] == ('0', '1', '2', '3', '4')


def test_a_few_labels_of_several_classes_are_refused(images):
    with pytest.raises(ValueError, match=r'labels_per_class=1 needs one class per image'):
        images('a.png,1,4\nb.png,0\n', labels_per_class=1)


@pytest.mark.parametrize('longest', [40, 250, 5000])
def test_one_long_path_costs_its_own_bytes_only(longest):
    paths = [f'n{number % 1000:08}/n{number:08}_{number:07}.JPEG' for number in range(100_000)]
    paths[777] = 'deep/' * (longest // 5)
    names = encoded(paths, 4096)
    assert len(pickle.dumps(names)) < 100_000 * (32 + 5)
    assert len(names) == 100_000
    assert names[777] == paths[777].encode()[:4097]
    places = [0, 1, 776, 778, 99_999, np.int64(5), -1]
    assert [names[place].decode() for place in places] == [paths[place] for place in places]
    some = pickle.loads(pickle.dumps(names[np.array([99_999, 3])]))
    assert [some[0].decode(), some[1].decode()] == [paths[99_999], paths[3]]
    for beyond in (100_000, -100_001):
        with pytest.raises(IndexError):
            names[beyond]


@pytest.mark.parametrize('sizes', [[1], [0, 255, 0], [256, 0, 65_280], [1, 2**16]])
def test_names_of_any_length_are_kept(sizes):
    expected = [bytes([65 + place]) * size for place, size in enumerate(sizes)]
    names = Names(expected)
    assert [names[place] for place in range(len(names))] == expected
