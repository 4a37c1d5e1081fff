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

__all__ = [
    'Accuracy',
    'ClassReport',
    'FeatureProbeHook',
    'MeanAveragePrecision',
    'PerClassAccuracy',
    'StageAccuracy',
    'UnlabelledProbeHook',
    'effective_rank',
    'extract_features',
    'knn_accuracy',
    'linear_probe_accuracy',
]
