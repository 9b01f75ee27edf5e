#!/usr/bin/env python3
"""`metaheads benchmark`; --help lists the options."""

import sys

from metaheads.cli import main

sys.exit(main(["benchmark", *sys.argv[1:]]))
