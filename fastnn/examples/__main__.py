"""``python -m fastnn.examples``: the examples and what each is about."""

import importlib
import pkgutil

from fastnn import examples

if __name__ == "__main__":
    print("python -m fastnn.examples.<name> [--quick] [--seed N] [--out FILE.png]\n")
    found = [module.name for module in pkgutil.iter_modules(examples.__path__)]
    names = [name for name in found if not name.startswith("_")]
    for name in names:
        page = importlib.import_module(f"{examples.__name__}.{name}")
        print(f"{name:<{max(map(len, names))}}  {(page.__doc__ or '').splitlines()[0]}")
