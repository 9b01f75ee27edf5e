#!/usr/bin/env python3
"""`metaheads demo`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["demo", *sys.argv[1:]]))
