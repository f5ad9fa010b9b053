"""Data sets: labelled images in [0, 1], by name."""

from rs_plugin.datasets.base import Collection, Dataset, check_images, choose, datasets, load_dataset, parse_subset

#: Adds a function that returns a ``Dataset`` under a name, in this process.
register_dataset = datasets.register

__all__ = [
    "Collection",
    "Dataset",
    "check_images",
    "choose",
    "datasets",
    "load_dataset",
    "parse_subset",
    "register_dataset",
]
