"""`python -m llmcourse` runs the commands of `llmcourse.cli`."""

import sys

from llmcourse.cli import main

sys.exit(main())
