"""What every command shares, under the name the commands of this package use.

It lives in :mod:`probes.command`, because ``python -m probes.first_token`` is a command too.
"""

from probes.command import (
    DISTRIBUTION,
    Parser,
    add_model_options,
    add_output_options,
    add_request_options,
    atomic,
    check_writable,
    dumps,
    find_second_moment,
    load_model,
    package_version,
    parser,
    run,
    write_text,
)

__all__ = [
    "DISTRIBUTION",
    "Parser",
    "add_model_options",
    "add_output_options",
    "add_request_options",
    "atomic",
    "check_writable",
    "dumps",
    "find_second_moment",
    "load_model",
    "package_version",
    "parser",
    "run",
    "write_text",
]
