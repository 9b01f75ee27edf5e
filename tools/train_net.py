#!/usr/bin/env python3
"""`metaheads train`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["train", *sys.argv[1:]]))
