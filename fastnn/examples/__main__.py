"""``python -m fastnn.examples``: the examples and what each is about."""

import importlib
import pkgutil

from fastnn import examples

if __name__ == "__main__":
    print("python -m fastnn.examples.<name> [--quick] [--seed N] [--out FILE.png]\n")
    for module in pkgutil.iter_modules(examples.__path__):
        if not module.name.startswith("_"):
            page = importlib.import_module(f"{examples.__name__}.{module.name}")
            print(f"{module.name:<22} {(page.__doc__ or '').splitlines()[0]}")
