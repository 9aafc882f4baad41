"""Tasks: what is trained."""

from . import augment
from .base import Metric, Task, Variables
from .find import BUILT_IN, FETCHED, find
from .images import style_transfer
from .sources import Data, from_file, read
from .tabular import adult, breast_cancer, diabetes, iris, wine
from .text import stdlib_text
from .vision import cifar10, digits, fashion_mnist, mnist

__all__ = [
    "BUILT_IN", "FETCHED", "Data", "Metric", "Task", "Variables", "adult", "augment", "breast_cancer", "cifar10", "diabetes",
    "digits", "fashion_mnist", "find", "from_file", "iris", "mnist", "read", "stdlib_text", "style_transfer",
    "wine",
]  # fmt: skip
