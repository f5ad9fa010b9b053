"""Data sets: labelled images in [0, 1], by name."""

from rs_plugin.datasets.base import Dataset, check_images, datasets, load_dataset, parse_subset

__all__ = ["Dataset", "check_images", "datasets", "load_dataset", "parse_subset"]
