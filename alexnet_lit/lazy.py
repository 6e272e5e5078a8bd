"""Names that a package offers and imports when one is first asked for, so that the others cost nothing."""

import random
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package: `homes` says which of its modules has each name."""

    def find(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = f"{package}.{homes[name]}"
        if module not in sys.modules:
            state = random.getstate()
            import_module(module)
            random.setstate(state)  # rich draws from it when it is imported
        return getattr(sys.modules[module], name)

    return find
