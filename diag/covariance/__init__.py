"""Estimate, merge and import the second moments C that everything else is measured by.

``python -m diag.covariance --layers 2,3 --text corpus.txt -o c-{layer}.safetensors``, or from a
notebook::

    from diag.covariance import second_moments

    second_moments(layers=[2, 3], text=["corpus.txt"], output="c-{layer}.safetensors")

Interrupted, the same command goes on where it was. Under ``torchrun`` the processes share the
text.
"""

from diag.covariance.command import second_moments

__all__ = ["second_moments"]
