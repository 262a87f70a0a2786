"""`python -m producer`: the command line."""

from producer.cli import main

main()
