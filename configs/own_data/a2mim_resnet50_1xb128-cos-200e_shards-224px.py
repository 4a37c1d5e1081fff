"""A2MIM pre-training of ResNet-50 on tar shards, at 224 pixels.

For more images than a folder can hold. ``tools/prepare_data/make_shards.py`` writes the shards; a
window holds two of its default size. Where DIR has a folder ``train``, only that one is read.
Run: python tools/train.py \
         configs/own_data/a2mim_resnet50_1xb128-cos-200e_shards-224px.py \
         --data-root DIR
"""

_base_ = [
    '../openmixup/pretrain/_base_/default_runtime.py',
    '_base_/folder_mim.py',
    '_base_/resnet50_mim.py',
    '_base_/mim_cos_200e.py',
]

train_dataloader = dict(
    dataset=dict(source=dict(type='WebShards')),
    sampler=dict(_delete_=True, type='ShardSampler', window=20_000),
)
# A tenth, the share that other runs accept, would be very many of these.
default_hooks = dict(bad_images=dict(type='BadImagesHook', max_share=0.01))
