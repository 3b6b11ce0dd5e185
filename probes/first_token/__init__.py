"""Where and why are keys of first tokens different?

``python -m probes.first_token``, or from a notebook::

    from probes.first_token import probe

    probe()
"""

from probes.first_token.command import probe

__all__ = ["probe"]
