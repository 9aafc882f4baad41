"""``python -m fallline``: the command line."""

from .cli.main import main

main()
