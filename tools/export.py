#!/usr/bin/env python3
"""`metaheads export`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["export", *sys.argv[1:]]))
