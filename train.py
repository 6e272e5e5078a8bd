"""Train AlexNet: `python train.py [key=value ...]`; `--help` lists groups and keys, `-m` sweeps over several values."""

import sys
from pathlib import Path

# Shells complete behind a file that says that it is an application of Hydra: @hydra.main is in alexnet_lit/app.py.
sys.path.insert(0, str(Path(__file__).resolve().parent))  # the package lies beside this file, installed or not

try:
    from alexnet_lit.app import main
except ModuleNotFoundError as error:
    if str(error.name).startswith("alexnet_lit"):
        raise
    sys.exit(f"error: {error.name} is not installed for this Python: run `make setup`, then .venv/bin/python train.py")

if __name__ == "__main__":
    sys.exit(main())
