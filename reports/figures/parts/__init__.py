"""What every figure is made of: ``canvas``, axes and colours; ``pdf``, all of a page's in one file.

Imports the rest of :mod:`reports` and :mod:`rome_diagnosis` alone.
"""
