"""Files of images that a run's flow has compressed, and the images of such a file."""

import hashlib
import os
from typing import NamedTuple

import numpy as np

from flowjax_glow.compression import Coded, Coder, Header, write_file
from flowjax_glow.compression.coder import Images
from flowjax_glow.compression.container import Sizes
from flowjax_glow.compression.stack import Words
from flowjax_glow.training.experiment import Experiment, Trained
from flowjax_glow.training.metrics import Progress


class Compressed(NamedTuple):
    """What became of images: the words, and the bytes of the file."""

    coded: Coded
    sizes: Sizes


def compress(
    trained: Trained,
    images: Images,
    path: str | os.PathLike[str],
    *,
    names: tuple[str, ...] | None = None,
    batch_size: int = 1,
) -> Compressed:
    """Writes images into a file, whole or not at all, and shows on stderr how far it is.

    Raises:
      ValueError: for a run that cannot compress, and images that its flow cannot take as they are.
    """
    batch_size = min(batch_size, len(images))
    coder = _coder(trained, batch_size)
    with _progress("compress", len(images)) as bar:
        coded = coder.encode(images, report=lambda done: bar.update(done, None))
    header = Header(
        images=len(images),
        event_shape=tuple(map(int, images.shape[1:])),
        n_bins=int(trained.experiment.n_bins or 0),
        batch_size=batch_size,
        initial_bits=coded.initial_bits,
        fingerprint=coder.fingerprint,
        pixels=_digest(images),
        weights=trained.weights,
        names=names,
    )
    return Compressed(coded, write_file(path, header, coded.words))


def decompress(trained: Trained, header: Header, words: Words) -> Images:
    """The images of a file, the very same; shows on stderr how far it is.

    Raises:
      ValueError: where the run, its checkpoint, the libraries or the machine's arithmetic are not those
        that the file was made by, saying which differ; and never another image.
    """
    flow = trained.experiment.flow
    own = flow.event_shape, trained.experiment.n_bins
    if (header.event_shape, header.n_bins) != own:
        raise ValueError(
            f"--workdir must be the run that the file was made by, of images {header.event_shape} in "
            f"{header.n_bins} levels; got one of {own[0]} in {own[1]}"
        )
    coder = _coder(trained, header.batch_size)
    differ = [
        f"{name} was {header.fingerprint.get(name, 'not there')[:12]}, and is {value[:12]}"
        for name, value in coder.fingerprint.items()
        if header.fingerprint.get(name) != value
    ]
    if differ:
        raise ValueError(
            f"the file must be decompressed with what it was made by, or pixels would be wrong: "
            f"{'; '.join(differ)}"
        )
    with _progress("decompress", header.images) as bar:
        images = coder.decode(
            words, header.initial_bits, header.images, report=lambda done: bar.update(done, None)
        )
    if _digest(images) != header.pixels:
        raise ValueError("this machine computes otherwise than that of the file, and got other pixels")
    return images


def check_compresses(experiment: Experiment) -> None:
    """Whether what a config describes can compress images, as far as can be told without params.

    Raises:
      ValueError: for vectors, a flow that is told labels, and learned noise.
    """
    dequantization = experiment.config.dequantization.name
    if experiment.n_bins is None:
        what = "vectors"
    elif experiment.conditional:
        what = "a flow that is told labels"
    elif dequantization != "uniform":
        what = f"{dequantization} dequantization"
    else:
        return
    raise ValueError(
        f"--workdir must be of a flow of images without labels, with uniform dequantization; got {what}"
    )


def _coder(trained: Trained, batch_size: int) -> Coder:
    experiment = trained.experiment
    check_compresses(experiment)
    return Coder(experiment.flow, trained.params, n_bins=experiment.n_bins or 0, batch_size=batch_size)


def _progress(what: str, images: int) -> Progress:
    return Progress(images, unit="", what=what, stderr=True)


def _digest(images: Images) -> str:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()
