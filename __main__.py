"""`python -m trimpot` is the command line."""

from .cli import main

main()
