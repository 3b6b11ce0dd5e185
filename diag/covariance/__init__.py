"""Estimate, merge and import the second moments C that everything else is measured by.

``python -m diag.covariance --layers 2,3 --text corpus.txt -o c-{layer}.safetensors``, or from a
notebook::

    from diag.covariance import second_moments

    second_moments(layers=[2, 3], text=["corpus.txt"], output="c-{layer}.safetensors")

An interrupted run resumes when the same command is given again. Under ``torchrun`` the processes
share the text.

May import :mod:`probes`, nothing else of :mod:`diag`, and :mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.covariance.api import second_moments as second_moments

__all__ = ["second_moments"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "diag.covariance.api"))
