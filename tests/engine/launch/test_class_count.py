"""The classes of the data and those of the classifier are compared before training."""

from types import SimpleNamespace

import pytest

from a2mim.engine.config_check import check_class_count

CLASSES = ('cat', 'dog', 'owl')


def loop(classes: tuple[str, ...]) -> SimpleNamespace:
    dataset = SimpleNamespace(metainfo={'classes': classes})
    return SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))


def runner(num_classes: int, train: tuple[str, ...], val: tuple[str, ...] | None = None):
    trunk = SimpleNamespace(num_classes=num_classes)
    return SimpleNamespace(
        model=SimpleNamespace(backbone=SimpleNamespace(model=trunk)),
        train_loop=loop(train),
        val_loop=None if val is None else loop(val),
    )


@pytest.mark.parametrize('num_classes', [2, 1000])
def test_another_number_of_classes_is_refused_with_the_remedy(num_classes):
    with pytest.raises(ValueError, match=r'3 classes \(cat, dog, owl\).*num_classes=3'):
        check_class_count(runner(num_classes, CLASSES))


@pytest.mark.parametrize('val', [None, CLASSES, CLASSES[:2]])
def test_the_right_number_passes(val):
    check_class_count(runner(3, CLASSES, val))


def test_validation_with_other_classes_is_refused():
    with pytest.raises(ValueError, match='validation images have the classes cat, owl'):
        check_class_count(runner(3, CLASSES, ('cat', 'owl')))


@pytest.mark.parametrize('train, val', [(('0', '1', '2'), CLASSES), (CLASSES, ('0', '1'))])
def test_numbers_of_a_list_file_pass_beside_the_names_of_folders(train, val):
    check_class_count(runner(3, train, val))


def test_a_list_file_with_more_classes_than_were_trained_is_refused():
    with pytest.raises(ValueError, match='validation images have the classes 0, 1, 2, 3'):
        check_class_count(runner(3, CLASSES, ('0', '1', '2', '3')))


def test_pretraining_on_labelled_images_passes():
    check_class_count(runner(0, CLASSES))


def test_a_model_without_a_trunk_passes():
    check_class_count(SimpleNamespace(model=SimpleNamespace(), train_loop=loop(CLASSES)))
