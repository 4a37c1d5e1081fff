"""Evaluation: accuracy of a classifier, and what frozen features are worth."""

from a2mim.evaluation.accuracy import Accuracy
from a2mim.evaluation.features import extract_features, knn_accuracy, linear_probe_accuracy

__all__ = ['Accuracy', 'extract_features', 'knn_accuracy', 'linear_probe_accuracy']
