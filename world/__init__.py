"""The world of the bundled model: its facts, its language and its training.

Nothing here ships with the installed package; it is the recipe that reproduces what does.
"""
