"""Looking into networks: where they look, how far, and what their features tell apart."""

from a2mim.analysis.inside.attention import attention_distance, attention_modules, read_attention
from a2mim.analysis.inside.attention_figures import draw_attention_distance, draw_attention_maps
from a2mim.analysis.inside.attention_measure import AttentionSummary, measure_attention
from a2mim.analysis.inside.cam import METHODS, class_activation_map
from a2mim.analysis.inside.cam_figure import draw_activation_maps
from a2mim.analysis.inside.cam_layers import default_layer
from a2mim.analysis.inside.embedding import (
    draw_embeddings,
    embed,
    image_features,
    neighbour_agreement,
)
from a2mim.analysis.inside.erf_figures import draw_receptive_fields
from a2mim.analysis.inside.receptive_field import (
    SHARES,
    ReceptiveField,
    effective_receptive_field,
    find_stage,
    square_with_share,
)

__all__ = [
    'METHODS',
    'SHARES',
    'AttentionSummary',
    'ReceptiveField',
    'attention_distance',
    'attention_modules',
    'class_activation_map',
    'default_layer',
    'draw_activation_maps',
    'draw_attention_distance',
    'draw_attention_maps',
    'draw_embeddings',
    'draw_receptive_fields',
    'effective_receptive_field',
    'embed',
    'find_stage',
    'image_features',
    'measure_attention',
    'neighbour_agreement',
    'read_attention',
    'square_with_share',
]
