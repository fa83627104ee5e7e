"""``python -m fastnn``: the command line."""

from fastnn.cli import main

raise SystemExit(main())
