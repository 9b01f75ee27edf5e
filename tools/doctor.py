#!/usr/bin/env python3
"""`metaheads doctor`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["doctor", *sys.argv[1:]]))
