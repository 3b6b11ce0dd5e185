"""A benchmark of hard edits for one model: mined from data sets, or composed from its vocabulary.

``python -m diag.hardcases --model … -o hard.json`` composes, a data set before the options is
mined. The argument, module by module:

============  =================================================================
``wordings``  relations: how they are put into words, and their objects
``cases``     an edit that was screened, and its record in a published format
``mine``      the edits of data sets that screening calls dangerous, ranked
``compose``   new ones: subjects that are one token, in every wording
``controls``  for each hard edit an easy one of the same relation and objects
``confirm``   as many performed as make the share that breaks the model known
``card``      the data card: how the set was made, and what is in it
``run``       from the options to the files
============  =================================================================

May import :mod:`diag.judgement`, :mod:`diag.screen`, :mod:`diag.verify` and :mod:`probes`;
:mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.hardcases.api import hardcases as hardcases

__all__ = ["hardcases"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "diag.hardcases.api"))
