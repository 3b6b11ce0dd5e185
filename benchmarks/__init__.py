"""Scripts that measure what the documentation claims.

Here lies what measures seconds, memory and interruptions.

==============  ===========================================================================
``studies``     what edits really do, held against what was said before they were made
``pretrained``  the same of a model that nobody here trained
``published``   our results and seconds beside those of the published code
==============  ===========================================================================

May import every package of the repository; only the tests may import it.
"""
