"""Floor 2: programs over an arena, compiled ops, and the executor. It knows no layers."""
