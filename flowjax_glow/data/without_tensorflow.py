"""Preparing a tensorflow-datasets set where TensorFlow is not installed, and LSUN anywhere.

Reading a prepared set needs no TensorFlow. Preparing one does, for little things: tfds extracts
archives and many builders (mnist, cifar10) open files through tf.io.gfile, and an image given as an
array becomes PNG through tf.image.encode_png. See github.com/tensorflow/datasets/issues/11058.
"""

import contextlib
import importlib.util
import io
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np


class TensorFlowNeededError(AttributeError):
    """A builder asks for more of TensorFlow than the stand-in has. name: TensorFlow, and for what."""


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; it is not loaded."""
    return importlib.util.find_spec("tensorflow") is not None


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """Within it, tfds finds those functions of TensorFlow in local files, numpy and Pillow.

    TensorFlow itself is never imported, and sys.modules stays as it is. A builder that asks for
    more of TensorFlow gets a TensorFlowNeededError.
    """
    from tensorflow_datasets.core.utils import lazy_imports_utils

    # etils' lazy module, one object for all of tfds, keeps what it has imported under "_module".
    imported = lazy_imports_utils.tensorflow.__dict__
    before = {k: v for k, v in imported.items() if k == "_module"}
    imported["_module"] = _stand_in()
    try:
        yield
    finally:
        del imported["_module"]
        imported.update(before)


class _Namespace(SimpleNamespace):
    def __getattr__(self, name: str) -> Any:
        what = f"TensorFlow ({name})"
        raise TensorFlowNeededError(f"this data set needs {what} to be prepared", name=what, obj=self)


def _stand_in() -> _Namespace:
    gfile = _Namespace(GFile=open, exists=os.path.exists, remove=os.remove)
    return _Namespace(
        io=_Namespace(gfile=gfile),
        compat=_Namespace(as_text=os.fsdecode),
        image=_Namespace(encode_png=lambda image: _Namespace(numpy=lambda: png(image))),
        executing_eagerly=lambda: True,
    )


def png(image: np.ndarray) -> bytes:
    """PNG of uint8 (height, width, channels), with 1 or 3 channels, compressed fast."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
        buffer, "PNG", compress_level=1
    )
    return buffer.getvalue()


def read_lsun_by_lmdb(builder: Any) -> None:
    """Lets the builder of "lsun" read its databases by the package lmdb: the same examples.

    tfds reads them by tensorflow-io, which goes with no TensorFlow that goes with numpy 2.
    """
    import lmdb  # type: ignore[reportMissingImports]  # of the extra

    def generate_examples(extracted_dir: Any, file_path: str) -> Iterator[tuple[int, dict[str, Any]]]:
        folder = os.path.join(extracted_dir, file_path)
        with lmdb.open(folder, readonly=True, lock=False) as database, database.begin() as reading:
            for i, (key, image) in enumerate(reading.cursor()):
                yield i, {"id": key.decode(), "image": io.BytesIO(image)}

    builder._generate_examples = generate_examples
