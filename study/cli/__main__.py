"""What `python -m study.cli` runs."""

from study.cli.entry import main

main()
