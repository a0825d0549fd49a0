"""`python -m pipeline`."""

import gc
import sys

from pipeline.cli import main

if __name__ == "__main__":
    code = main()
    # Python's last collections would walk through all of torch and MLflow for a second.
    gc.freeze()
    sys.exit(code)
