"""Locating, loading and describing a model. Imports nothing else of :mod:`probes`.

================  =================================================================================
``locate``        where a model comes from: a directory, a GGUF file, the local cache, the hub
``gguf``          GGUF files, dequantised once into a directory
``load``          from a directory or a name to a model that is ready for measuring
``adopt``         the same for a model that is in memory already
``bridge``        TransformerLens' wrapper, and the proof that it computes what Hugging Face does
``sound``         the proof that the weights are all there and finite
``loaded``        the loaded model: its parts and what results say about it
``tokens``        texts as tokens, tokens as text
``architecture``  all knowledge of layouts, in one table
``contribution``  from the MLP's output to the residual stream
``fingerprint``   which weights a measurement belongs to
``messages``      what libraries say when they fail, in one line
================  =================================================================================
"""
