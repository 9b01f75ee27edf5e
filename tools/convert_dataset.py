#!/usr/bin/env python3
"""`metaheads convert-dataset`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["convert-dataset", *sys.argv[1:]]))
