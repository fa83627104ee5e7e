"""Twelve experiments, each a page to read and a program: ``python -m fastnn.examples.<name>``.

Each measures what it says: it prints its claims, whether the run bears them out, and the figures;
and writes a picture where matplotlib is installed. ``python -m fastnn.examples`` lists them.
"""
