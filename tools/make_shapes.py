#!/usr/bin/env python3
"""`metaheads make-shapes`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["make-shapes", *sys.argv[1:]]))
