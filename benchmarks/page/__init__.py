"""The newest kept reports as one HTML page and as pictures: ``python -m benchmarks.page``.

Reports become charts (``compared``, ``others``), and these HTML (``markup``) or PNG (``pictures``).
"""
