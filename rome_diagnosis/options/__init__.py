"""Every option that commands share, each declared once; one added here is everywhere.

===============  ===========================================================================
``model``        which model, block and C: :func:`setup` makes a ``probes.setup.Setup`` of it
``edits``        what is edited, and in which contexts
``methods``      the editor or method, and how its target v* is optimised
``measurement``  what is measured on an edited model
``output``       where results go, and when a command fails
``values``       the kinds of values, and what stands for one that was not given
===============  ===========================================================================

An option of one command alone is declared by that command. Below these modules and the commands
nothing knows argparse.
"""

from rome_diagnosis.options.edits import add_edits as add_edits
from rome_diagnosis.options.edits import add_limit as add_limit
from rome_diagnosis.options.edits import add_perform as add_perform
from rome_diagnosis.options.edits import add_prefixes as add_prefixes
from rome_diagnosis.options.edits import add_request as add_request
from rome_diagnosis.options.edits import add_seed as add_seed
from rome_diagnosis.options.measurement import add_measurement as add_measurement
from rome_diagnosis.options.measurement import add_tasks as add_tasks
from rome_diagnosis.options.measurement import task_files as task_files
from rome_diagnosis.options.measurement import task_names as task_names
from rome_diagnosis.options.methods import add_clamp as add_clamp
from rome_diagnosis.options.methods import add_editor as add_editor
from rome_diagnosis.options.methods import add_hyperparameters as add_hyperparameters
from rome_diagnosis.options.methods import add_method as add_method
from rome_diagnosis.options.methods import add_other_method as add_other_method
from rome_diagnosis.options.methods import add_target as add_target
from rome_diagnosis.options.methods import method_of as method_of
from rome_diagnosis.options.methods import names_a_batch_method as names_a_batch_method
from rome_diagnosis.options.methods import target_of as target_of
from rome_diagnosis.options.model import add_layers as add_layers
from rome_diagnosis.options.model import add_model as add_model
from rome_diagnosis.options.model import setup as setup
from rome_diagnosis.options.output import add_fail_on as add_fail_on
from rome_diagnosis.options.output import add_journal as add_journal
from rome_diagnosis.options.output import add_json as add_json
from rome_diagnosis.options.output import add_output as add_output
from rome_diagnosis.options.output import add_save_model as add_save_model
from rome_diagnosis.options.output import add_verbose as add_verbose
from rome_diagnosis.options.output import fails as fails
from rome_diagnosis.options.output import journal_of as journal_of
from rome_diagnosis.options.output import outputs as outputs
from rome_diagnosis.options.values import UNSET as UNSET
from rome_diagnosis.options.values import Options as Options
from rome_diagnosis.options.values import count as count
from rome_diagnosis.options.values import layers as layers
from rome_diagnosis.options.values import natural as natural
from rome_diagnosis.options.values import positive as positive
