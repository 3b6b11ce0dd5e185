"""Make the edit that the diagnosis recommends, save the model, and take it back bit for bit.

``python -m diag.apply --subject "Apple" --target-new "Bill Gates" -o edited``, or from a notebook::

    from diag.apply import apply, guard, undo

    apply("Apple", "{} was founded by", target_new="Bill Gates", output="edited")
    undo("edited")

``guard`` raises before a dangerous edit, whatever editor is about to make it.

May import :mod:`diag.judgement`, :mod:`diag.keys`, :mod:`diag.mathematics`, :mod:`diag.verify` and
:mod:`probes`; :mod:`reports` only inside functions.
"""

from typing import TYPE_CHECKING

from rome_diagnosis import lazy

if TYPE_CHECKING:
    from diag.apply.api import apply as apply
    from diag.apply.api import apply_list as apply_list
    from diag.apply.danger import DangerousEdit as DangerousEdit
    from diag.apply.danger import DiagnosingEditor as DiagnosingEditor
    from diag.apply.danger import guard as guard
    from diag.saved.record import undo as undo

__all__ = ["DangerousEdit", "DiagnosingEditor", "apply", "apply_list", "guard", "undo"]
__getattr__, __dir__ = lazy.attach(
    __name__,
    {
        "DangerousEdit": "diag.apply.danger",
        "DiagnosingEditor": "diag.apply.danger",
        "apply": "diag.apply.api",
        "apply_list": "diag.apply.api",
        "guard": "diag.apply.danger",
        "undo": "diag.saved.record",
    },
)
