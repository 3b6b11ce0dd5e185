"""What is kept on disk: files that appear complete or not at all, and journals.

============  =============================================================================
``files``     reading and writing: atomic, and never over an input
``journal``   results of a long run as they come, from which it resumes
============  =============================================================================

Imports the rest of :mod:`rome_diagnosis` alone.
"""
