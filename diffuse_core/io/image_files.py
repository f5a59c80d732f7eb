"""The files that images lie in: which they are, and how large."""

from __future__ import annotations

import functools
import os

import h5py

HDF5 = (".h5", ".hdf5", ".hdf", ".nxs", ".cxi")


def files_of(path: str) -> tuple[str, ...]:
    """A file of images and, for HDF5, the files with data that it links to.

    Args:
        path: As the image set names it.
    """
    if not path.endswith(HDF5) or not os.path.isfile(path) or not h5py.is_hdf5(path):
        return (path,)
    status = os.stat(path)
    return (path, *_linked(path, status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=1024)
def _linked(path: str, changed: int, size: int) -> tuple[str, ...]:
    """The files that the file, as it is since `changed`, links to and that exist."""
    folder = os.path.dirname(path)
    with h5py.File(path, "r") as h5:
        linked = {os.path.join(folder, name) for name in _links(h5) if name != "."}
    return tuple(sorted(f for f in linked - {path} if os.path.isfile(f)))


def bytes_per_image(experiment) -> float:
    """Size of an image in its file (bytes), as it is stored: mostly compressed.

    An image of a container gets a fair share: the size of the files, linked ones
    included, divided by the number of images that are in them.

    Args:
        experiment: dxtbx Experiment with images.
    """
    reader = experiment.imageset.reader()
    return _mean_size(tuple(reader.paths()), len(reader))


@functools.lru_cache(maxsize=1024)
def _mean_size(paths: tuple[str, ...], n_images: int) -> float:
    files = {name for path in set(paths) for name in files_of(path)}
    return sum(map(os.path.getsize, files)) / n_images


def _links(h5: h5py.File):
    """Names of the files that external links and virtual datasets point to."""
    groups = [h5]
    while groups:
        group = groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield link.filename
            elif isinstance(link, h5py.HardLink):
                item = group[name]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif item.is_virtual:
                    yield from (source.file_name for source in item.virtual_sources())
