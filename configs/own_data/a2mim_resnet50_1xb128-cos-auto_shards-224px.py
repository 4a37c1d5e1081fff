"""A2MIM pre-training of ResNet-50 on tar shards, at 224 pixels.

For data sets too large for a folder of images. ``tools/prepare_data/make_shards.py`` writes the
shards; the shuffle window holds two shards of the default size. Where DIR has a folder ``train``,
only that folder is read.
Run: python tools/train.py \
         configs/own_data/a2mim_resnet50_1xb128-cos-auto_shards-224px.py \
         --data-root DIR
"""

_base_ = [
    '_base_/folder_mim.py',
    '_base_/resnet50_mim.py',
    '_base_/mim_cos_auto.py',
]

train_dataloader = dict(
    dataset=dict(source=dict(type='WebShards')),
    sampler=dict(_delete_=True, type='ShardSampler', window=20_000),
)
# Lower than the default of other runs, a tenth: that would be very many images here.
default_hooks = dict(bad_images=dict(type='BadImagesHook', max_share=0.01))
