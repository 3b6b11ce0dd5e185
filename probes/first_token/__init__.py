"""Where and why are keys of first tokens different?

``python -m probes.first_token``, or from a notebook::

    from probes.first_token import probe

    probe()

May import :mod:`probes.bundled`, :mod:`probes.forward`, :mod:`probes.keys`, :mod:`probes.model`,
:mod:`probes.request` and :mod:`probes.second_moment`; :mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from probes.first_token.api import probe as probe

__all__ = ["probe"]
__getattr__, __dir__ = lazy.attach(__name__, dict.fromkeys(__all__, "probes.first_token.api"))
