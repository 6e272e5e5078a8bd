"""Train AlexNet: `python train.py [key=value ...]`; `--help` lists groups and keys, `-m` sweeps over several values."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the package lies beside this file, installed or not

from alexnet_lit.app import main

if __name__ == "__main__":
    sys.exit(main())
