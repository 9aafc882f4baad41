"""Where data come from: local files and folders, and OpenML; as mapped columns that the whole fleet shares."""

from .cache import folder as cache_folder
from .data import Data
from .local import from_file, read

__all__ = ["Data", "cache_folder", "from_file", "read"]
