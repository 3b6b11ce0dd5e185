"""Finding, loading and describing a model. Imports nothing else of :mod:`probes`."""
