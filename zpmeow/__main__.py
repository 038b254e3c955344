"""`python -m zpmeow` is `zpmeow`."""

import sys

from zpmeow.cli import main

sys.exit(main())
