"""Generated shapes in COCO's format, as COCO's own tools read them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrunk_detector import write_shapes
from shrunk_segmentor import write_shapes as write_label_maps

pytestmark = [pytest.mark.transfer, pytest.mark.filterwarnings('default')]


@pytest.mark.parametrize(('split', 'images'), [('train', 4), ('val', 2)])
def test_the_tools_of_coco_read_masks_boxes_and_areas(tmp_path, split, images):
    from pycocotools.coco import COCO

    root = write_shapes(tmp_path / 'coco', images=4, val=2, size=64)
    maps = write_label_maps(tmp_path / 'ade', images=4, val=2, size=64)
    coco = COCO(root / f'annotations/instances_{split}2017.json')
    assert len(coco.getImgIds()) == images
    for annotation in coco.loadAnns(coco.getAnnIds()):
        mask = coco.annToMask(annotation)
        assert mask.shape == (64, 64)
        assert mask.sum() == pytest.approx(annotation['area'], rel=0.15, abs=4)
        rows, columns = np.nonzero(mask)
        left, top, width, height = annotation['bbox']
        assert left - 1 <= columns.min() <= columns.max() <= left + width + 1
        assert top - 1 <= rows.min() <= rows.max() <= top + height + 1
        labels = label_map(maps, split, annotation['image_id'])
        inside = labels[mask == 1]
        assert {*np.unique(inside)} <= {0, 1, annotation['category_id'] + 1}
        assert (inside == 1).mean() < 0.1


def label_map(root: Path, split: str, number: int) -> np.ndarray:
    part = {'train': 'training', 'val': 'validation'}[split]
    with Image.open(root / f'annotations/{part}/ADE_{split}_{number:08d}.png') as image:
        return np.array(image)
