"""Evaluation: accuracy of a classifier, and what frozen features are worth."""

from a2mim.evaluation.epoch_probe import UnlabelledProbeHook, effective_rank
from a2mim.evaluation.feature_probe import (
    FeatureProbeHook,
    extract_features,
    knn_accuracy,
    linear_probe_accuracy,
)
from a2mim.evaluation.metrics import (
    Accuracy,
    ClassReport,
    MeanAveragePrecision,
    PerClassAccuracy,
    StageAccuracy,
)
from a2mim.evaluation.predictions import Predictions, average_mirrored, draw_predictions

__all__ = [
    'Accuracy',
    'ClassReport',
    'FeatureProbeHook',
    'MeanAveragePrecision',
    'PerClassAccuracy',
    'Predictions',
    'StageAccuracy',
    'UnlabelledProbeHook',
    'average_mirrored',
    'draw_predictions',
    'effective_rank',
    'extract_features',
    'knn_accuracy',
    'linear_probe_accuracy',
]
