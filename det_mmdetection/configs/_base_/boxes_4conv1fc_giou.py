"""A box head of four convolutions and one linear layer, trained with GIoU on decoded boxes."""

bbox_head = dict(
    type='Shared4Conv1FCBBoxHead',
    conv_out_channels=256,
    norm_cfg=dict(type='SyncBN', requires_grad=True),
    reg_decoded_bbox=True,
    loss_bbox=dict(_delete_=True, type='GIoULoss', loss_weight=10.0),
)
