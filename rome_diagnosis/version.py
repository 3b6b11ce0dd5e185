"""The toolkit's version, as it is installed."""

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "rome-diagnosis"

try:
    __version__ = version(DISTRIBUTION)
except PackageNotFoundError:  # the source tree without an installation
    __version__ = "0+unknown"
