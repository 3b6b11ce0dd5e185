"""Files that users hand in, taken apart row by row: JSON, JSON Lines, CSV, Parquet, each also gzip.

Knows nothing about edits, texts or models. May import nothing but :mod:`rome_diagnosis`.
"""
