#!/usr/bin/env python3
"""`metaheads import-weights`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["import-weights", *sys.argv[1:]]))
