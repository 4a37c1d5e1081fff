"""A2MIM pre-training of ResNet-50 on a folder of images without labels, at 224 pixels.

Images may be in sub-folders and have any size and format. Where DIR has a folder ``train``, only
that folder is read. For another backbone change two entries, the model and the layer after which
the mask token is inserted; ``python tools/analysis_tools/list_stages.py NAME`` lists the layers:
``--cfg-options model.backbone.model_name=convnext_tiny model.backbone.mask_after=stages.2``.
Run: python tools/train.py \
         configs/own_data/a2mim_resnet50_1xb128-cos-auto_folder-224px.py \
         --data-root DIR
"""

_base_ = [
    '_base_/folder_mim.py',
    '_base_/resnet50_mim.py',
    '_base_/mim_cos_auto.py',
]
