"""Owns the comparison of studies: two or more runs side by side, and what may be said of them."""

from pipeline.compare.picture import figure_file, write_figure
from pipeline.compare.show import print_comparison
from pipeline.compare.sides import Side, read_sides

__all__ = ["Side", "figure_file", "print_comparison", "read_sides", "write_figure"]
