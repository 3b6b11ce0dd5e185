"""Task files of the harness over the bundled world: choices, cloze, last word.

The harness's own command runs them too: ``lm_eval --include_path`` this folder.

May import :mod:`probes.bundled` only.
"""
