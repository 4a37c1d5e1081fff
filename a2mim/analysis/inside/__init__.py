"""Looking into networks: where they look, how far, and what their features tell apart."""

from a2mim.analysis.inside.attention import (
    AttentionSummary,
    attention_distance,
    attention_modules,
    measure_attention,
    read_attention,
)
from a2mim.analysis.inside.attention_figures import draw_attention_distance, draw_attention_maps
from a2mim.analysis.inside.cam import (
    METHODS,
    class_activation_map,
    default_layer,
    draw_activation_maps,
)
from a2mim.analysis.inside.embedding import draw_embeddings, embed, pooled_features
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
    'measure_attention',
    'pooled_features',
    'read_attention',
    'square_with_share',
]
