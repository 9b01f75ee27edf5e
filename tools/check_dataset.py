#!/usr/bin/env python3
"""`metaheads check-dataset`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["check-dataset", *sys.argv[1:]]))
