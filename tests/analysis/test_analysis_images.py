"""A seeded choice of images, fitted to any size."""

from pathlib import Path

import pytest
import torch

from a2mim.analysis import AnalysisImages
from toy_run import write_images


def test_the_choice_depends_on_the_seed_alone():
    first, again, other = (AnalysisImages('photos', 20, seed) for seed in (1, 1, 2))
    assert first.names == again.names != other.names
    assert torch.equal(first.pixels((16, 16)), again.pixels((16, 16)))


def test_photographs_say_which_they_are():
    images = AnalysisImages('photos', 30)
    assert len(images) == 30
    assert [images.classes[label] for label in images.labels] == [
        name.split()[0] for name in images.names
    ]


def test_folders_are_classes_if_that_is_asked_for(tmp_path):
    write_images(tmp_path, 4)
    plain, labelled = (AnalysisImages(str(tmp_path), 6, labelled=value) for value in (False, True))
    assert plain.labels is None
    assert plain.names == labelled.names
    folders = [Path(name).parent.name for name in labelled.names]
    assert [labelled.classes[label] for label in labelled.labels] == folders


def test_parts_are_parts_of_the_whole_at_any_shape(tmp_path):
    images = AnalysisImages('photos', 5)
    whole = images.pixels((24, 40))
    assert whole.shape == (5, 3, 24, 40)
    assert whole.dtype == torch.uint8
    assert torch.equal(
        torch.cat([images.pixels((24, 40), 0, 2), images.pixels((24, 40), 2)]), whole
    )


@pytest.mark.parametrize('number', [0, -1, 13])
def test_a_number_of_images_that_are_not_there_is_refused(tmp_path, number):
    write_images(tmp_path, 4)  # of each of three classes
    with pytest.raises(ValueError, match=rf'{number} images were asked for, .* has 12'):
        AnalysisImages(str(tmp_path), number)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='gone'):
        AnalysisImages(str(tmp_path / 'gone'), 1)
