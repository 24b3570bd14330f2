"""Hyperparameter search with the same budget for every method: pure decisions, no training, no Ray, no files.

A search is a campaign (``study.search.campaign``): it hands out segments of training, is told what they gave, and
decides what comes next. Everything it decides follows from its settings and from what it was told, never from the
clock or from which machine was faster, so that it can be repeated and gone on with after a kill.
"""
