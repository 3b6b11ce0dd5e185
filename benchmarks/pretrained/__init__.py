"""The study on a real pretrained model: perform, evidence, predictors, tables; trace and sink.

May import the four packages, nothing else of :mod:`benchmarks`.
"""
