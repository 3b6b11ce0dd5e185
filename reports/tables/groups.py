"""What groups of edits are compared by, in the order of the paper's tables."""

from __future__ import annotations

GROUPINGS = {
    "collapse": "Collapse cases and normal ones",
    "first_token": "Where the subject's last token stands",
    "record": "The data set's own groups",
}
# What it is called, which figure, whether it is a share.
FIGURES = (
    ("‖v* − v‖", "numerator_norm", False),
    ("|D|, unit direction", "denominator_normalised_size", False),
    ("Damage, × stream", "relative_damage", False),
    ("‖ΔW‖ / ‖W‖", "relative_update_norm", False),
    ("Collapsed", "collapsed", False),
    ("Largest perplexity", "perplexity_max", False),
    ("… over before", "perplexity_ratio_max", False),
    ("Efficacy", "efficacy", True),
    ("Efficacy, unseen prefix", "efficacy_unseen_prefix", True),
    ("Efficacy, generated", "efficacy_generated", True),
    ("Generalisation", "generalisation", True),
    ("Locality", "locality", True),
    ("Recall, other facts", "recall", True),
    ("Text entropy, bits", "entropy", False),
)
