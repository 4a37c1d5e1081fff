"""Evaluation: accuracy of a classifier, and what frozen features are worth."""

from a2mim.evaluation.accuracy import Accuracy
from a2mim.evaluation.feature_probe import FeatureProbeHook
from a2mim.evaluation.features import extract_features, knn_accuracy, linear_probe_accuracy
from a2mim.evaluation.per_class_accuracy import ClassReport, PerClassAccuracy
from a2mim.evaluation.stage_accuracy import StageAccuracy

__all__ = [
    'Accuracy',
    'ClassReport',
    'FeatureProbeHook',
    'PerClassAccuracy',
    'StageAccuracy',
    'extract_features',
    'knn_accuracy',
    'linear_probe_accuracy',
]
