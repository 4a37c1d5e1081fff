"""MMPretrain as the host: our pre-training under its registries, launcher and runner.

    custom_imports = dict(imports=['a2mim.mmpretrain'], allow_failed_imports=False)

Nothing is implemented twice: these classes turn what MMPretrain passes around (``inputs`` and
``data_samples``) into what ours take (``image`` and ``mask``), and back. Everything else of ours
has the scope ``a2mim.`` in a config of MMPretrain: ``type='a2mim.FocalFrequencyLoss'``. As the
import of ``a2mim.transfer`` does, this one makes local checkpoints load safely.

Axes: B batch, C channels, (H, W) pixels, (h, w) mask blocks, K classes.
"""
# pyright: reportMissingImports=false

from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import numpy as np
import torch
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from torch import Tensor, nn
from torch.utils.data import Dataset

from a2mim import models, registry, transfer
from a2mim.datasets.transforms import PatchMask
from a2mim.models.data_preprocessor import ImagePreprocessor, count_masked
from a2mim.options import SHIPPED

# The maintained distribution and upstream's: both are imported as ``mmpretrain``.
DISTRIBUTIONS = ('onedl-mmpretrain', 'mmpretrain')
MAJOR = 1
INSTALL = 'pip install "onedl-mmpretrain>=1.3.6,<2" "transformers<5"'


def installed_host() -> tuple[str, str] | None:
    """The name and the version of the distribution that MMPretrain was installed from."""
    for name in DISTRIBUTIONS:
        with suppress(PackageNotFoundError):
            return name, version(name)
    return None


def check_host() -> None:
    """Check that MMPretrain can be imported and is of the version that this module is for.

    Raises:
        ValueError: If not, with the remedy. Of an ImportError mmengine drops the message.
    """
    host = installed_host()
    if host is None:
        raise ValueError(f'MMPretrain (onedl-mmpretrain) is not installed; run: {INSTALL}')
    name, found = host
    remedy = (
        f'run: {INSTALL}' if name != 'mmpretrain' else f'run: pip uninstall {name} && {INSTALL}'
    )
    if found.partition('.')[0] != str(MAJOR):
        raise ValueError(f'MMPretrain {found} is installed, version {MAJOR} is needed; {remedy}')
    try:
        import mmpretrain.models  # noqa: F401
    except (ImportError, TypeError, AssertionError) as error:  # of another version of a dependency
        raise ValueError(f'MMPretrain {found} cannot be imported ({error}); {remedy}') from error


check_host()

from mmcv.transforms import BaseTransform  # noqa: E402
from mmpretrain.apis import ModelHub  # noqa: E402
from mmpretrain.datasets import BaseDataset  # noqa: E402
from mmpretrain.registry import DATASETS, MODELS, TRANSFORMS  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402

__all__ = [
    'HostedA2MIM',
    'HostedDataset',
    'HostedImages',
    'HostedMask',
    'HostedPreprocessor',
    'HostedSimMIM',
    'transfer',
]

# What ``get_model`` and ``inference_model`` of MMPretrain know by name.
ModelHub.register_model_index(SHIPPED / 'configs' / 'mmpretrain' / 'model-index.yml')


def our_names() -> AbstractContextManager[None]:
    """Within the block a type without a scope is ours: MMPretrain has a ``MIMHead`` of its own."""
    return DefaultScope.overwrite_default_scope('a2mim')


def their_names() -> AbstractContextManager[None]:
    """Within the block a type without a scope is MMPretrain's."""
    return DefaultScope.overwrite_default_scope('mmpretrain')


@MODELS.register_module()
class HostedPreprocessor(ImagePreprocessor):
    """Our ``ImagePreprocessor`` on the batches of MMPretrain, for its classifiers too.

    Args:
        to_rgb: Swap the first and the third of three channels: MMPretrain reads images as BGR.
        batch_augments: What MMPretrain's classifiers give, their ``train_cfg``; must be None.
        **options: Of ``ImagePreprocessor``, such as ``mixup``.

    Shape:
        inputs: (B, C, H, W), or B images (C, H, W), of any type; returned as float32, normalised.
        data_samples: B ``DataSample``. Labels are returned on the device, and as ``gt_score`` (K,)
            where images were mixed; masks as they are.

    Raises:
        ValueError: If ``batch_augments`` are given.
    """

    def __init__(
        self, *, to_rgb: bool = True, batch_augments: dict | None = None, **options: Any
    ) -> None:
        if batch_augments is not None:
            raise ValueError(
                f'train_cfg={batch_augments} of the classifier has no effect with '
                'HostedPreprocessor: give it mixup=dict(...), the arguments of timm.data.Mixup'
            )
        super().__init__(**options)
        self.to_rgb = to_rgb

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return a new batch, ready for the model."""
        data = dict(data)
        image, samples = data.pop('inputs'), data.pop('data_samples', None)
        image = image if isinstance(image, Tensor) else torch.stack(tuple(image))
        data['image'] = in_other_order(image, 1) if self.to_rgb else image
        if samples and 'mask' not in samples[0]:  # masks are counted before they move
            samples = cast(list, self.cast_data(samples))
            if 'gt_label' in samples[0]:
                data['label'] = torch.cat([sample.gt_label for sample in samples])
        batch = super().forward(data, training)
        if batch.get('label', torch.empty(0)).ndim == 2:
            for sample, score in zip(samples, batch['label'], strict=True):
                sample.set_gt_score(score)
        return {'inputs': batch['image'], 'data_samples': samples}


def in_other_order(image: Tensor, axis: int) -> Tensor:
    """RGB as BGR and the reverse; other numbers of channels as they are."""
    return image.flip(axis) if image.shape[axis] == 3 else image


class Hosted(models.A2MIM):
    """What an algorithm of ours needs to be one of MMPretrain.

    Args:
        backbone: Config of any backbone of MMPretrain, or of ours with its scope:
            ``a2mim.TimmBackbone``.
        neck, head: As of ``A2MIM``; types without a scope are ours.
        data_preprocessor: Config of a ``HostedPreprocessor``, the type when there is none.
        **options: Of ``A2MIM``; ``mask_after`` is needed for a backbone of MMPretrain.

    Shape:
        inputs: (B, C, H, W), normalised.
        data_samples: B ``DataSample`` with ``mask`` (h, w), 1 where masked.
    """

    def __init__(
        self,
        backbone: dict | nn.Module,
        neck: dict | nn.Module,
        head: dict | nn.Module,
        data_preprocessor: dict | ImagePreprocessor,
        **options: Any,
    ) -> None:
        with their_names():
            if isinstance(data_preprocessor, dict):
                named = {'type': 'HostedPreprocessor', **data_preprocessor}
                data_preprocessor = MODELS.build(named)
            if isinstance(backbone, dict) and not backbone['type'].startswith('a2mim.'):
                backbone = MODELS.build(backbone)
        with our_names():
            super().__init__(backbone, neck, head, data_preprocessor, **options)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        inputs: Tensor,
        data_samples: Sequence[DataSample] | None = None,
        mode: str = 'tensor',
    ) -> Any:
        """Losses (``'loss'``), features (``'tensor'``) or samples with pictures (``'predict'``)."""
        if mode == 'tensor':
            return self.extract_feat(inputs)
        if not data_samples or any('mask' not in sample for sample in data_samples):
            raise ValueError(
                f'mode={mode!r} needs a mask in every data sample: put '
                "dict(type='HostedMask', ...) before PackInputs, or use a HostedDataset"
            )
        drawn = torch.stack([sample.mask for sample in data_samples])
        mask = drawn.to(inputs.device, torch.float32)
        if mode == 'loss':
            return self.loss(inputs, mask, count_masked(drawn))
        return self._samples(self.predict(inputs, mask), data_samples)

    def extract_feat(self, inputs: Tensor, *_: object, **__: object) -> tuple[Tensor, ...]:
        """The features (B, C', H', W') of whole images, in a tuple, as MMPretrain takes maps."""
        return (self.backbone(inputs),)

    def init_weights(self) -> None:
        """Initialise a network of MMPretrain as that does; the rest as ours."""
        if isinstance(self.backbone.model, BaseModule):
            self.backbone.model.init_weights()
        super().init_weights()

    def _samples(
        self, pictures: dict[str, Tensor], samples: Sequence[DataSample]
    ) -> list[DataSample]:
        """Copies of the samples, each with its pictures (C, H, W) as uint8."""
        images = {
            name: self.data_preprocessor.denormalize(picture)
            for name, picture in pictures.items()
            if name != 'mask'
        }
        filled = [sample.clone() for sample in samples]
        for i, sample in enumerate(filled):
            for name, picture in images.items():
                sample.set_field(picture[i], name)
        return filled


@MODELS.register_module()
class HostedA2MIM(Hosted):
    """A2MIM as an algorithm of MMPretrain, see ``Hosted``."""


@MODELS.register_module()
class HostedSimMIM(Hosted, models.SimMIM):
    """SimMIM as an algorithm of MMPretrain, on any backbone; its own ``SimMIM`` needs a Swin."""


@DATASETS.register_module()
class HostedDataset(Dataset):
    """A data set of ours, its samples packed as MMPretrain packs them.

    With our sampler every sample is bit for bit that of our runner.

    Args:
        dataset: Config of a ``MaskedImageDataset`` or an ``ImageDataset``; types without a scope
            are ours.

    Shape:
        inputs: (C, H, W), in the type of the file, BGR.
        data_samples: ``DataSample`` with ``mask`` (h, w), and with ``gt_label`` (1,), or
            ``gt_score`` (K,) where images have several labels, if there are labels.
    """

    def __init__(self, dataset: dict) -> None:
        with our_names():
            self.dataset = registry.DATASETS.build(dataset)
        self.metainfo = self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: Any) -> dict:
        return packed(self.dataset[key])

    def __getitems__(self, keys: Sequence) -> list[dict]:
        return [packed(sample) for sample in self.dataset.__getitems__(keys)]


def packed(sample: dict) -> dict:
    """A sample of a data set of ours as ``PackInputs`` of MMPretrain makes it."""
    sample, data = dict(sample), DataSample()
    inputs = sample.pop('image')
    mask, label = (sample.pop(name, None) for name in ('mask', 'label'))
    if mask is not None:
        data.set_mask(mask)
    if isinstance(label, Tensor) and label.ndim:
        data.set_gt_score(label.float())
    elif label is not None:
        data.set_gt_label(int(label))
    return {**sample, 'inputs': in_other_order(inputs, 0), 'data_samples': data}


@DATASETS.register_module()
class HostedImages(BaseDataset):
    """An image source of ours (folders, archives, embedded images) in a pipeline of MMPretrain.

    Args:
        source: Config of the source; a type without a scope is ours.
        pipeline: Transforms of MMPretrain, without ``LoadImageFromFile``: they get ``img``,
            (H, W, C) in BGR order, and ``gt_label`` if there are labels.
        **options: Of ``BaseDataset``, such as ``test_mode``.
    """

    def __init__(self, source: dict, pipeline: Sequence = (), **options: Any) -> None:
        with our_names():
            self.source = registry.DATASETS.build(source)
        classes = self.source.classes
        meta = {'metainfo': {'classes': tuple(classes)}} if classes else {}
        super().__init__(ann_file='', pipeline=pipeline, **{**meta, **options})

    def load_data_list(self) -> list[dict]:
        """The index and the label of every image."""
        labels = ((i, self.source.label(i)) for i in range(len(self.source)))
        return [
            {'index': i} if label is None else {'index': i, 'gt_label': label}
            for i, label in labels
        ]

    def prepare_data(self, idx: int) -> Any:
        """Load an image and run the pipeline."""
        info = self.get_data_info(idx)
        image = in_other_order(self.source.load(info.pop('index')), 0)
        size = tuple(image.shape[-2:])
        image = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return self.pipeline({**info, 'img': image, 'img_shape': size, 'ori_shape': size})


@TRANSFORMS.register_module()
class HostedMask(BaseTransform):
    """Our ``PatchMask`` in a pipeline of MMPretrain, before ``PackInputs``: adds ``mask``.

    It draws from numpy's global generator, as MMPretrain's transforms do.

    Args:
        **options: Of ``PatchMask``; images and blocks need not be square.
    """

    def __init__(self, **options: Any) -> None:
        self.mask = PatchMask(**options)

    def transform(self, results: dict) -> dict:
        """Draw a mask.

        Raises:
            ValueError: If the image has another size than the mask is for.
        """
        size = tuple(results['img'].shape[:2])
        if size != self.mask.image_size:
            raise ValueError(
                f'the pipeline gives images of {size} pixels but HostedMask has image_size='
                f'{self.mask.image_size}; crop or resize to the size of the mask'
            )
        rng = np.random.default_rng(np.random.randint(2**31))
        return {**results, 'mask': self.mask(rng).numpy()}
