#!/usr/bin/env python3
"""`metaheads quickstart`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["quickstart", *sys.argv[1:]]))
