"""``python -m hubthread``: the command line.

Layer: top.  Threads: the main thread.
"""

import sys

from hubthread.cli import main

if __name__ == "__main__":
    sys.exit(main())
