# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Transfer: detection and segmentation
#
# [Open in Colab](https://colab.research.google.com/github/a2mim/a2mim/blob/main/examples/transfer.ipynb)
#
# One backbone, two hosts. You pre-train a small ResNet without labels, and take it into
# torchvision's Mask R-CNN, which needs no further package, and into MMSegmentation's UPerNet, which
# needs the extra `[seg]`; without it, its cells say so and do nothing. Both learn to find six
# shapes on photographs. About 90 seconds on a CPU; the images are generated, nothing is downloaded
# but the packages.

# %%
import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec('a2mim') is None:
    wheels = sorted(pathlib.Path('..').glob('dist/a2mim-*.whl'))  # written by `make package`
    source = str(wheels[-1]) if wheels else 'git+https://github.com/a2mim/a2mim'
    if subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', source]).returncode:
        raise SystemExit(
            'without network: run `make package` in a clone, and this cell again; if packages are '
            'missing, `pip download -d wheels .` on another machine (docs/install.md)'
        )

# %%
import contextlib
import io
import json
import os
import shlex
import tempfile
import warnings

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import hsv_to_rgb
from matplotlib.patches import Patch, Rectangle
from mmengine.logging import MMLogger
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

warnings.filterwarnings('ignore', message='IProgress')  # of tqdm, without ipywidgets

import a2mim
from a2mim.models import TimmBackbone
from a2mim.options import SHIPPED
from a2mim.transfer import TrunkPretrained

torch.manual_seed(0)
MMLogger.get_instance('notebook', log_level='WARNING')
plt.rcParams['figure.dpi'] = 80
os.chdir(tempfile.mkdtemp())  # data and runs go here
print(a2mim.__version__, torch.__version__)


def run(*commands):
    """Run Python commands side by side, each on one core; returns what they write."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    one_core = {**os.environ, 'OMP_NUM_THREADS': '1'}
    started = [
        subprocess.Popen([sys.executable, *shlex.split(command)], **pipes, env=one_core)
        for command in commands
    ]
    written = [process.communicate()[0] for process in started]
    for process, text in zip(started, written, strict=True):
        if process.returncode:
            raise SystemExit('\n'.join(text.splitlines()[-5:]))
    return written


# %% [markdown]
# ## Shapes, and a backbone
#
# `make_shapes.py` draws six shapes of random place, size and rotation, each class around a colour
# of its own, once in COCO's layout for the detector and once in ADE20K's for the segmentor. In a
# clone it is `tools/prepare_data/make_shapes.py`; a wheel carries it too.
#
# Meanwhile `a2mim pretrain` trains the ResNet-10 of the quick start on photographs, without labels
# and without shapes: one epoch of A2MIM, 47 steps. `a2mim extract` then writes the backbone alone,
# a file that all hosts read.

# %%
MAKE = shlex.quote(str(SHIPPED / 'tools/prepare_data/make_shapes.py'))
SIZE = '--images 240 --val 48 --size 64 --colours class'
coco, ade, log = run(
    f'{MAKE} coco --format coco {SIZE}',
    f'{MAKE} ade --format ade {SIZE}',
    '-m a2mim pretrain a2mim_resnet10t_1xb32-cos-6e_photos-64px --out pretrained '
    '--cfg-options train_cfg.max_epochs=1 param_scheduler.warmup=0.2',
)
print(coco, ade, sep='')
print(*(line.split('INFO - ')[1] for line in log.splitlines() if 'at the end' in line), sep='\n')
(log,) = run('-m a2mim extract pretrained/latest.pth backbone.pth')
print(log)

# %% [markdown]
# ## Mask R-CNN of torchvision
#
# `TimmBackbone` returns the maps of strides 4 to 32 of a timm model, and `TrunkPretrained` fills it
# from the file, or raises an error where a tensor is missing. The rest is torchvision's: pyramid,
# anchors, and heads, which are narrow here, for a CPU.


# %%
class Pyramid(nn.Module):
    """A pre-trained timm model below torchvision's feature pyramid."""

    out_channels = 64

    def __init__(self, weights):
        super().__init__()
        self.body = TimmBackbone(
            'resnet10t',
            out_indices=(1, 2, 3, 4),
            channels=(32, 64, 128, 256),
            zero_init_last=False,
        )
        TrunkPretrained(weights)(self.body.model)  # all of it, or an error
        maps = self.body.out_channels
        self.fpn = FeaturePyramidNetwork(maps, self.out_channels, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.fpn({str(level): one for level, one in enumerate(self.body(images))})


def coco_split(split):
    """Images (3, 64, 64) in 0 … 1, what a detector learns from them, and the names of classes."""
    content = json.loads(pathlib.Path(f'coco/annotations/instances_{split}2017.json').read_text())
    found = []
    for entry in content['images']:
        shapes = [one for one in content['annotations'] if one['image_id'] == entry['id']]
        masks = [Image.new('1', (64, 64)) for _ in shapes]
        for mask, shape in zip(masks, shapes, strict=True):
            ImageDraw.Draw(mask).polygon(shape['segmentation'][0], fill=1)
        x, y, width, height = torch.tensor([shape['bbox'] for shape in shapes]).T
        target = dict(
            boxes=torch.stack([x, y, x + width, y + height], dim=1),
            labels=torch.tensor([shape['category_id'] for shape in shapes]),
            masks=torch.from_numpy(np.stack(masks).astype(np.uint8)),
        )
        image = np.array(Image.open(f'coco/{split}2017/{entry["file_name"]}'))
        found.append((torch.from_numpy(image).permute(2, 0, 1) / 255, target))
    return found, [category['name'] for category in content['categories']]


(train, names), (val, _) = coco_split('train'), coco_split('val')
detector = MaskRCNN(
    Pyramid('backbone.pth'),
    min_size=64,
    max_size=64,
    rpn_anchor_generator=AnchorGenerator(((8,), (16,), (24,), (32,), (48,)), ((1.0,),) * 5),
    rpn_post_nms_top_n_train=100,
    rpn_post_nms_top_n_test=50,
    box_batch_size_per_image=32,
    box_detections_per_img=10,
    box_nms_thresh=0.3,
    box_head=TwoMLPHead(64 * 7 * 7, 128),
    box_predictor=FastRCNNPredictor(128, len(names) + 1),  # 0 is the background
    mask_head=MaskRCNNHeads(64, (64, 64), 1),
    mask_predictor=MaskRCNNPredictor(64, 64, len(names) + 1),
)
print(f'{sum(p.numel() for p in detector.parameters()) / 1e6:.1f} million parameters')

# %%
STEPS, BATCH = 80, 8
optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3, weight_decay=0.05)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS, pct_start=0.2)
curves = {}
order = np.random.default_rng(0)
detector.train()
for _ in range(STEPS):
    batch = [train[index] for index in order.choice(len(train), BATCH, replace=False)]
    images, targets = zip(*batch, strict=True)
    losses = detector(list(images), list(targets))
    optimizer.zero_grad()
    sum(losses.values()).backward()
    torch.nn.utils.clip_grad_norm_(detector.parameters(), 10.0)
    optimizer.step()
    schedule.step()
    for name, value in losses.items():
        curves.setdefault(name.removeprefix('loss_'), []).append(value.item())

plt.figure(figsize=(7, 2.8))
for name in ('classifier', 'box_reg', 'mask', 'objectness'):
    plt.plot(np.convolve(curves[name], np.ones(5) / 5, 'valid'), label=name)
plt.xlabel('step')
plt.ylabel('loss')
plt.ylim(0, 1.5)
plt.title('Losses of Mask R-CNN')
plt.legend(fontsize=8)
plt.show()

# %% [markdown]
# *Four of its five losses, means over five steps.*

# %%
COLORS = [hsv_to_rgb((number / 6, 0.8, 0.9)) for number in range(6)]  # about those of the shapes
LEGEND = [Patch(color=COLORS[number], label=name) for number, name in enumerate(names)]


def painted(image, labels):
    """A grey copy of (H, W, 3) in 0 … 1, with the classes 1 to 6 of (H, W) in their colours."""
    grey = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    colors = np.array([(0, 0, 0), *COLORS[: len(names)]])[labels]
    return np.where(labels[..., None] > 0, 0.35 * grey + 0.65 * colors, grey)


def draw(rows, title):
    """Pictures in rows by name."""
    columns = len(next(iter(rows.values())))
    figure, panels = plt.subplots(
        len(rows), columns, figsize=(1.45 * columns, 1.5 * len(rows) + 0.6)
    )
    for line, (name, pictures) in zip(panels, rows.items(), strict=True):
        line[0].set_ylabel(name)
        for panel, picture in zip(line, pictures, strict=True):
            panel.imshow(picture)
            panel.set(xticks=[], yticks=[])
    figure.suptitle(title)
    figure.legend(handles=LEGEND, loc='lower center', ncols=6, fontsize=8, frameon=False)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    return panels


def label_map(masks, labels):
    """(64, 64), the class of the last mask on each pixel, 0 without one."""
    found = np.zeros((64, 64), dtype=int)
    for mask, label in zip(masks.numpy(), labels.tolist(), strict=True):
        found[mask > 0] = label
    return found


detector.eval()
predicted = []
with torch.no_grad():
    for image, _ in val:
        (one,) = detector([image])
        sure = one['scores'] > 0.5
        predicted.append({key: value[sure] for key, value in one.items()})
        predicted[-1]['masks'] = one['masks'][sure, 0] > 0.5

SHOWN = 6
pictures = [image.permute(1, 2, 0).numpy() for image, _ in val[:SHOWN]]
rows = {
    'image': pictures,
    'truth': [
        painted(picture, label_map(target['masks'], target['labels']))
        for picture, (_, target) in zip(pictures, val[:SHOWN], strict=True)
    ],
    'predicted': [
        painted(picture, label_map(one['masks'], one['labels']))
        for picture, one in zip(pictures, predicted[:SHOWN], strict=True)
    ],
}
panels = draw(rows, 'Mask R-CNN on validation images')
for panel, one in zip(panels[2], predicted[:SHOWN], strict=True):
    for (left, top, right, bottom), score in zip(one['boxes'], one['scores'], strict=True):
        size = float(right - left), float(bottom - top)
        panel.add_patch(Rectangle((left, top), *size, fill=False, color='white'))
        panel.text(left, top - 1, f'{score:.1f}', color='white', fontsize=7)
plt.show()

# %% [markdown]
# *Images of which no pixel was in training, the shapes in them, and the masks, boxes and scores of
# the detector, where the score is above 0.5.* After 80 steps most shapes have their class and their
# place; the masks are blobs with few corners, and two of the circles are missed.

# %%
found, false = 0, 0
for one, (_, target) in zip(predicted, val, strict=True):
    truth = target['masks'].bool()
    same = one['labels'][:, None] == target['labels'][None]
    both = (one['masks'][:, None] & truth[None]).sum((2, 3))
    either = (one['masks'][:, None] | truth[None]).sum((2, 3))
    hit = same & (both / either > 0.5)
    found += int(hit.any(dim=0).sum())
    false += int((~hit.any(dim=1)).sum())
total = sum(len(target['labels']) for _, target in val)
print(f'{found} of {total} shapes found, in the right class and with an IoU above 0.5;')
print(f'{false} predictions above a score of 0.5 are no such shape')

# %% [markdown]
# ## UPerNet of MMSegmentation
#
# The same file in the other host. A config of MMSegmentation takes `a2mim.TimmBackbone` as any of
# its own backbones: `custom_imports` makes it known, and `a2mim.transfer.train` puts the file in
# the place of `PRETRAIN`.

# %%
CONFIG = """
_base_ = ['mmseg::upernet/upernet_r18_4xb4-80k_ade20k-512x512.py']
custom_imports = dict(imports=['a2mim.transfer'], allow_failed_imports=False)

head = dict(
    num_classes=7,
    channels=64,
    dropout_ratio=0,
    norm_cfg=dict(type='BN'),
    loss_decode=dict(class_weight=[0.3] + 6 * [1.0]),  # most pixels are photograph
)
model = dict(
    data_preprocessor=dict(size=(64, 64)),
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='a2mim.TimmBackbone',
        model_name='resnet10t',
        out_indices=(1, 2, 3, 4),
        channels=(32, 64, 128, 256),
        zero_init_last=False,
        init_cfg=dict(type='a2mim.TrunkPretrained', checkpoint='PRETRAIN'),
    ),
    decode_head=dict(in_channels=[32, 64, 128, 256], **head),
    auxiliary_head=dict(in_channels=128, **head),
)

classes = ('photograph', 'circle', 'square', 'triangle', 'star', 'cross', 'arrow')
shapes = dict(
    _delete_=True,
    type='BaseSegDataset',
    data_root='ade',
    img_suffix='.jpg',
    seg_map_suffix='.png',
    reduce_zero_label=True,
    metainfo=dict(classes=classes),
)
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', reduce_zero_label=True)]
test_pipeline = [*load, dict(type='PackSegInputs')]
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **shapes,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=[*load, dict(type='RandomFlip', prob=0.5), dict(type='PackSegInputs')],
    ),
)
val_dataloader = dict(
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        **shapes,
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=8)
optim_wrapper = dict(optimizer=dict(_delete_=True, type='AdamW', lr=3e-3, weight_decay=0.05))
param_scheduler = [dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=120, by_epoch=False)]
train_cfg = dict(max_iters=120, val_interval=120)
default_hooks = dict(checkpoint=dict(interval=120))
"""
pathlib.Path('segmentor.py').write_text(CONFIG)
MMSEG = importlib.util.find_spec('mmseg') is not None
if MMSEG:
    (log,) = run('-m a2mim.transfer.train segmentor.py backbone.pth --work-dir segmentor')
    lines = log.splitlines()
    print(next(line for line in lines if 'match' in line).split('INFO - ')[1])
    start = next(number for number, line in enumerate(lines) if 'Class' in line)
    print(*lines[start - 1 : start + 10], sep='\n')
else:
    print("MMSegmentation is not installed. In a clone: pip install -e '.[seg]'; elsewhere:")
    print("pip install 'a2mim[seg] @ git+https://github.com/a2mim/a2mim'; then start again")

# %% [markdown]
# Each image is segmented by MMSegmentation's own `init_model` and `inference_model`.

# %%
if MMSEG:
    # What the package says of its own parts while it is imported and used.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter('ignore')
        from mmseg.apis import inference_model, init_model

        segmentor = init_model('segmentor.py', 'segmentor/latest.pth', device='cpu')
        files = sorted(pathlib.Path('ade/images/validation').glob('*.jpg'))[:SHOWN]
        results = inference_model(segmentor, [str(file) for file in files])
    pictures = [np.array(Image.open(file)) / 255 for file in files]
    truths = [np.array(Image.open(f'ade/annotations/validation/{f.stem}.png')) for f in files]
    rows = {
        'image': pictures,
        # In ADE20K's format 1 is the first class, here the photograph, and 0 is no class.
        'truth': [painted(p, t.clip(1) - 1) for p, t in zip(pictures, truths, strict=True)],
        'predicted': [
            painted(p, one.pred_sem_seg.data[0].numpy())
            for p, one in zip(pictures, results, strict=True)
        ],
    }
    draw(rows, 'UPerNet on validation images')
    plt.show()

# %% [markdown]
# *The same images as above, their classes, and the class that the segmentor gives to each pixel.*
# Most areas are right, and corners are round here as well: colour is learnt before outline.
#
# ## What this does not show
#
# Whether the pre-training helps. One epoch of 1,512 small images is too little to expect it, and
# shapes with a colour for each class are easy. What it shows is that every tensor arrives, and how
# few lines that takes. [Runs of
# minutes](https://github.com/a2mim/a2mim/blob/main/docs/transfer.md) with and without pre-training
# were equal within noise; the same page has the configs for COCO and ADE20K, and the published
# numbers.
