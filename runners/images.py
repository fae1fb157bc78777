"""Images: from any common medical format to one frozen :class:`Image` without patient data.

The content of a file decides how it is read, never its name alone. What was chosen on the way (frame, window,
inversion, orientation) is told in :attr:`Image.notes`. Every failure is a :class:`taxonomy.ImageError` of one sentence.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import nibabel as nib
import numpy as np
import pydicom
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.pixels.utils import pixel_array
from torch import Tensor

from taxonomy.errors import ImageError

Source = str | Path | bytes | BinaryIO
"""A path, the bytes of a file, or an open binary file (an upload)."""
Window = Literal["dicom"] | tuple[float, float] | None
"""``"dicom"``: the window stored in the file; ``(centre, width)``; None: the whole range of values."""
Array = NDArray[Any]

orientations: Any = nib.orientations  # nibabel carries no annotations here

FORMATS = "PNG, JPEG, TIFF, BMP, WebP, DICOM (also a folder of slices), NIfTI, .npy and .npz"
MAX_VALUES = 2**28
"""Most values one image may hold (1 GiB as float32): larger files are refused before they are decoded."""
MAX_BYTES = 2**31

_SUFFIXES = {
    ".png",
    ".jpg",
    ".jpeg",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".dcm",
    ".dicom",
    ".ima",
    ".nii",
    ".gz",
    ".npy",
    ".npz",
}
_MODALITIES = {
    "US": "ultrasound", "IVUS": "ultrasound", "CR": "xray", "DX": "xray", "RF": "xray", "XA": "xray", "IO": "xray",
    "PX": "xray", "MG": "mammography", "CT": "ct", "MR": "mri", "PT": "pet", "NM": "spect", "SM": "histopathology",
    "OP": "fundus", "OPT": "oct", "IVOCT": "oct", "ES": "endoscopy", "GM": "microscopy",
}  # fmt: skip
"""DICOM Modality to the modality id of the knowledge base. XC (any photograph) and OT say nothing about the kind."""
_VOLUMES = {"CT", "MR", "PT", "MG", "OPT", "IVOCT"}
"""Modalities whose many frames are slices; those of all others are moments."""
_NOT_IMAGES = {"RTDOSE": "a dose distribution", "SEG": "a segmentation", "RTSTRUCT": "contours", "SR": "a report",
               "RTPLAN": "a treatment plan", "ECG": "a waveform", "PR": "a presentation state"}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """The grid of the file that values came from: what is needed to write maps back into it.

    Attributes:
        shape: spatial shape in the file.
        affine: voxel indices of the file to RAS millimetres, ``(4, 4)``.
        orientation: nibabel orientation array that turned the file's axes into ``values``' axes.
    """

    shape: tuple[int, ...]
    affine: Array
    orientation: Array


@dataclass(frozen=True, eq=False)
class Image:
    """An image without anything that identifies a patient.

    Attributes:
        values: float32 ``(C, H, W)`` or ``(C, *volume)`` in stored units: HU for CT, 0..255 for 8-bit images. A volume
            with an affine has the axes left to right, posterior to anterior, inferior to superior (RAS); one without
            has (D, H, W).
        display_range: the values shown as black and as white.
        full_range: the values that the pixel type can hold, for 8- and 16-bit images; else None.
        spacing: millimetres per spatial axis, or None when the file does not say.
        affine: indices of ``values`` to RAS millimetres, for volumes that have one.
        grid: how to go back to the file's own grid, for images with an affine.
        modality: modality id that the file's header implies, or None.
        frames: frames (moments, pages) the file holds; a volume counts as one.
        sha256: of the bytes read.
        format: "PNG", "DICOM", "NIfTI", ...
        notes: what was chosen while reading, a sentence each.
    """

    values: Tensor
    display_range: tuple[float, float]
    sha256: str
    format: str
    full_range: tuple[float, float] | None = None
    spacing: tuple[float, ...] | None = None
    affine: Array | None = None
    grid: Grid | None = field(default=None, repr=False)
    modality: str | None = None
    frames: int = 1
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Number of channels: 1 grey, 3 colour."""
        return self.values.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape, without channels."""
        return tuple(self.values.shape[1:])

    @property
    def dims(self) -> int:
        """2 or 3."""
        return self.values.ndim - 1

    @property
    def plane_axis(self) -> int:
        """The axis across the usual plane: 2 (axial) for oriented volumes, or one twice as coarse; 0 for stacks."""
        if self.affine is None or self.spacing is None:
            return 0
        coarse = int(np.argmax(self.spacing))
        return coarse if self.spacing[coarse] > 1.99 * sorted(self.spacing)[1] else 2

    def view(self, values: Tensor, axis: int | None = None, index: int | None = None) -> Tensor:
        """Cut a viewer's slice out of any array on this image's grid.

        Oriented volumes are shown as radiologists do: axial and coronal slices with the patient's right on the left of
        the screen and anterior or superior on top; sagittal slices with anterior on the left and superior on top.

        Args:
            values: ``(*spatial)`` or ``(K, *spatial)``: the image itself, a map, a mask.
            axis: the axis across the slice, default :attr:`plane_axis`; ignored for 2D images.
            index: the slice, default the middle one.

        Returns:
            ``(H, W)`` or ``(K, H, W)``: a view where possible.

        Raises:
            ImageError: when the array is not on this grid, or the slice does not exist.
        """
        if tuple(values.shape[-self.dims :]) != self.shape or values.ndim > self.dims + 1:
            raise ImageError(f"An array of shape {tuple(values.shape)} is not on the image's grid {self.shape}.")
        if self.dims == 2:
            return values
        axis, index = self._slice(axis, index)
        plane = values.select(axis - 3, index)
        if self.affine is None:
            return plane
        # RAS axes left in order, e.g. (X, Y): turn to (rows, columns) and let rows run down
        return plane.transpose(-1, -2).flip(-1, -2)

    def _slice(self, axis: int | None, index: int | None) -> tuple[int, int]:
        axis = self.plane_axis if axis is None else axis
        if axis not in (0, 1, 2):
            raise ImageError(f"A volume has the axes 0, 1 and 2, not {axis}.")
        index = self.shape[axis] // 2 if index is None else index
        if not 0 <= index < self.shape[axis]:
            raise ImageError(f"Axis {axis} has the slices 0 to {self.shape[axis] - 1}, not {index}.")
        return axis, index

    def slice(self, axis: int | None = None, index: int | None = None) -> Image:
        """Return one slice as a 2D image, turned as :meth:`view` shows it; a 2D image returns itself.

        Raises:
            ImageError: when the slice does not exist.
        """
        if self.dims == 2:
            return self
        axis, index = self._slice(axis, index)
        spacing = None
        if self.spacing is not None:
            rest = [size for number, size in enumerate(self.spacing) if number != axis]
            spacing = tuple(rest if self.affine is None else rest[::-1])
        plane = (
            {0: "sagittal", 1: "coronal", 2: "axial"}[axis] + " slice"
            if self.affine is not None
            else f"slice across axis {axis}"
        )
        note = f"The {plane} {index} of 0 to {self.shape[axis] - 1} was taken."
        return replace(
            self,
            values=self.view(self.values, axis, index).contiguous(),
            spacing=spacing,
            affine=None,
            grid=None,
            notes=(*self.notes, note),
        )

    def display(self, axis: int | None = None, index: int | None = None) -> Tensor:
        """Return what a viewer shows: ``(H, W)`` grey or ``(H, W, 3)`` colour, float32 in 0..1.

        The values are windowed by :attr:`display_range`. Images with another number of channels show their first one.

        Raises:
            ImageError: when the slice does not exist.
        """
        plane = self.view(self.values, axis, index)
        low, high = self.display_range
        shown = ((plane - low) / ((high - low) or 1.0)).clamp(0, 1)
        return shown.permute(1, 2, 0).contiguous() if self.channels == 3 else shown[0].contiguous()

    def to_original(self, values: Tensor) -> tuple[Tensor, Array]:
        """Turn a map on this grid back into the grid of the file it was read from.

        Args:
            values: ``(*spatial)`` on the grid of this image.

        Returns:
            The map in the file's own axis order, and the file's affine (voxel to RAS millimetres).

        Raises:
            ImageError: when the file had no affine, or the map is not on the grid.
        """
        if self.grid is None:
            raise ImageError(
                "Only an image read with an affine (NIfTI, a DICOM series) has an original grid to go back to."
            )
        if tuple(values.shape) != self.shape:
            raise ImageError(f"A map of shape {tuple(values.shape)} is not on the image's grid {self.shape}.")
        array = values.detach().cpu().numpy()
        if self.dims == 2:  # a single slice: undo the viewer's turn
            array = np.expand_dims(array[::-1, ::-1].T, _thin_axis(self.grid))
        back = orientations.apply_orientation(array, orientations.ornt_transform(_RAS, self.grid.orientation))
        return torch.from_numpy(np.ascontiguousarray(back.reshape(self.grid.shape))), self.grid.affine.copy()


_RAS = orientations.axcodes2ornt("RAS")


def _thin_axis(grid: Grid) -> int:
    """The RAS axis of a single-slice grid that has one voxel."""
    shape = (*grid.shape, 1)[:3]
    return int(grid.orientation[shape.index(1), 0])


@dataclass
class _Read:
    """What a reader found before the common checks."""

    values: Array  # (C, *spatial)
    format: str
    full_range: tuple[float, float] | None = None
    window: tuple[float, float] | None = None  # centre, width, in the units of values
    spacing: tuple[float, ...] | None = None
    affine: Array | None = None  # of the file's grid, when `values` is (C, X, Y, Z) in the file's order
    modality: str | None = None
    frames: int = 1
    notes: list[str] = field(default_factory=list)


def load_image(
    source: Source | Sequence[Source],
    *,
    frame: int | Literal["channels"] | None = None,
    window: Window = "dicom",
    name: str | None = None,
) -> Image:
    """Read an image.

    Args:
        source: a path, a folder of DICOM slices, bytes, an open binary file, or a list of these: slices of one series.
        frame: which frame or page of a file with several (from 0). By default a cine gives its middle frame, slices
            (CT, MR, a TIFF stack) give a volume, a 4D NIfTI its first volume. ``"channels"`` takes the volumes of a
            4D NIfTI as channels.
        window: what :meth:`Image.display` shows; values are never changed by it.
        name: what to call the source in messages when it is bytes.

    Returns:
        The image; see :class:`Image` for units and axes.

    Raises:
        ImageError: when it is missing, empty, damaged, too large, not an image, or holds NaN or infinite values.
    """
    if isinstance(source, (list, tuple)):
        return _series([_read_bytes(item, None)[0] for item in source], f"{len(source)} files", frame, window)
    if isinstance(source, (str, Path)) and Path(source).is_dir():
        folder = Path(source)
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not files:
            raise ImageError(
                f"The folder {folder.name!r} holds no files; give a folder with the DICOM slices of one series."
            )
        if len(files) == 1:
            return load_image(files[0], frame=frame, window=window)
        return _series(_slices(files), repr(folder.name), frame, window)
    assert not isinstance(source, Sequence) or isinstance(source, (str, bytes))
    data, called = _read_bytes(source, name)
    read = _read(data, called, frame)
    return _finish(read, hashlib.sha256(data).hexdigest(), called, window)


def load_mask(source: Source, *, like: Image, frame: int | None = None, name: str | None = None) -> Tensor:
    """Read a mask or a label image that belongs to an image.

    Args:
        source: as for :func:`load_image`, but one file. Palette images give their indices, as label files mean them.
        like: the image; the mask must be on its grid.
        frame: which frame, when there are several.
        name: what to call the source in messages when it is bytes.

    Returns:
        ``(*spatial)`` on the grid of ``like``: bool when the file holds 0 and one other value at most, else int64.

    Raises:
        ImageError: when it cannot be read, is lossy, is not made of whole numbers, or lies on another grid.
    """
    data, called = _read_bytes(source, name)
    read = _read(data, called, frame, labels=True)
    if read.format == "JPEG":
        raise ImageError(f"{called} is a JPEG: its compression changes labels; save the mask as PNG, TIFF or NIfTI.")
    mask = _finish(read, "", called, None)
    values = mask.values
    if mask.channels > 1:
        if not bool((values == values[:1]).all()):
            raise ImageError(f"{called} is coloured; a mask has one channel whose values are the labels.")
        values = values[:1]
    if mask.shape != like.shape:
        raise ImageError(
            f"{called} is {times(mask.shape)}, the image is {times(like.shape)}; a mask has the size of its image."
        )
    if mask.affine is not None and like.affine is not None:
        corners = np.array(
            [[x, y, z, 1] for x in (0, like.shape[0]) for y in (0, like.shape[1]) for z in (0, like.shape[2])]
        )
        apart = float(np.abs((mask.affine - like.affine) @ corners.T).max())
        if apart > 0.5 * min(like.spacing or (1.0,)):
            raise ImageError(
                f"{called} lies up to {apart:.1f} mm away from the image: its affine belongs to another grid."
            )
    if not bool((values == values.round()).all()):
        raise ImageError(f"{called} holds fractions; a mask is made of whole numbers.")
    found = values[0].to(torch.int64)
    kinds = torch.unique(found)
    return found != 0 if len(kinds) <= 2 and (len(kinds) == 1 or 0 in kinds) else found


def times(shape: Sequence[int]) -> str:
    """Return a shape for messages: ``35×50×35``."""
    return "×".join(map(str, shape))


def _read_bytes(source: Source, name: str | None) -> tuple[bytes, str]:
    """Return the bytes and what to call them in messages."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        called = name or path.name
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ImageError(
                    f"{called} is {path.stat().st_size / 2**30:.1f} GiB; at most {MAX_BYTES // 2**30} GiB are read."
                )
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise ImageError(f"There is no file {called!r}.") from error
        except OSError as error:
            raise ImageError(f"{called} cannot be read: {error.strerror}.") from error
    elif isinstance(source, bytes):
        data, called = source, name or "the upload"
    else:
        data, called = source.read(), name or Path(str(getattr(source, "name", "the upload"))).name
    if not data:
        raise ImageError(f"{called} is empty (0 bytes).")
    return data, called


def _read(data: bytes, called: str, frame: int | Literal["channels"] | None, *, labels: bool = False) -> _Read:
    """Find the format by content and read it."""
    kind = _kind(data)
    if kind is None:
        suffix = Path(called).suffix.lower()
        claim = (
            f"its name ends in {suffix}, but its content is not an image"
            if suffix in _SUFFIXES
            else "its content is not a known image"
        )
        raise ImageError(f"{called} cannot be read: {claim}; known are {FORMATS}.")
    if frame == "channels" and kind != "NIfTI":
        raise ImageError(f'{called} is {kind}: frame="channels" is for 4D NIfTI files.')
    with _quiet():
        try:
            if kind == "DICOM":
                return _dicom(_dataset(data), called, frame if isinstance(frame, int) else None)
            if kind == "NIfTI":
                return _nifti(data, called, frame)
            if kind == "NumPy":
                return _numpy(data, called)
            if kind == "TIFF":
                return _tiff(data, called, frame if isinstance(frame, int) else None, labels)
            return _picture(data, kind, called, frame if isinstance(frame, int) else None, labels)
        except ImageError:
            raise
        # decoders of damaged files raise whatever their C libraries and parsers stumble over
        except Exception as error:
            raise ImageError(f"{called} is a damaged or unsupported {kind} file: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return " ".join(line.strip() for line in text.splitlines()[:2]).rstrip(".:")[:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep readers' warnings and log lines off the screen: they may quote header values of patients."""
    loggers = [logging.getLogger(name) for name in ("pydicom", "tifffile", "nibabel.global", "nibabel")]
    levels = [logger.level for logger in loggers]
    limit = PillowImage.MAX_IMAGE_PIXELS
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        PillowImage.MAX_IMAGE_PIXELS = None  # our own limit, checked before decoding, gives one sentence
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        PillowImage.MAX_IMAGE_PIXELS = limit
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _kind(data: bytes) -> str | None:
    head = data[:16]
    if data[128:132] == b"DICM":
        return "DICOM"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head.startswith(b"BM") and len(data) > 26:
        return "BMP"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith(b"\x93NUMPY"):
        return "NumPy"
    if head.startswith(b"PK\x03\x04"):
        return "NumPy" if _is_npz(data) else None
    if _nifti_head(data) is not None:
        return "NIfTI"
    return "DICOM" if _is_bare_dicom(data) else None


def _is_npz(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(member.endswith(".npy") for member in archive.namelist())
    except zipfile.BadZipFile:
        return False


def _nifti_head(data: bytes) -> bytes | None:
    """The first 540 bytes of a NIfTI file (of a gzipped one unpacked), else None."""
    head = data[:540]
    if data[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(wbits=31).decompress(data[:65536], 540)
        except zlib.error:
            return None
    if head[344:348] in (b"n+1\0", b"ni1\0") or head[4:8] == b"n+2\0":
        return head
    return None


def _is_bare_dicom(data: bytes) -> bool:
    """DICOM without its preamble, as old scanners wrote it: starts with a low group number and has pixels."""
    if int.from_bytes(data[:2], "little") not in (2, 8) and int.from_bytes(data[:2], "big") not in (2, 8):
        return False
    with _quiet():
        try:
            header = pydicom.dcmread(io.BytesIO(data), force=True, stop_before_pixels=True)
            return "Rows" in header and "Columns" in header
        except Exception:  # any bytes may be tried here: what cannot be parsed is not DICOM
            return False


def _check_size(values: int, called: str) -> None:
    if values > MAX_VALUES:
        raise ImageError(f"{called} would unpack to {values:,} values; at most {MAX_VALUES:,} are read at once.")


def _finish(read: _Read, sha256: str, called: str, window: Window) -> Image:
    """The common end: check values, orient, window."""
    values = read.values.astype(np.float32, copy=False)
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise ImageError(
            f"{called} holds an array of shape {times(values.shape[1:])}; images have 2 or 3 spatial axes."
        )
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if bad:
        raise ImageError(f"{called} holds {bad:,} values that are NaN or infinite; replace them before explaining.")
    low, high = float(values.min()), float(values.max())
    if low == high:
        read.notes.append(f"Every value is {low:g}: there is nothing to see in this image.")
    affine, spacing, grid = None, read.spacing, None
    if read.affine is not None:
        orientation = orientations.io_orientation(read.affine)
        grid = Grid(values.shape[1:], read.affine, orientation)
        thick = values if values.ndim == 4 else values[..., None]
        oriented = np.stack([orientations.apply_orientation(channel, orientation) for channel in thick])
        affine = read.affine @ orientations.inv_ornt_aff(orientation, thick.shape[1:])
        spacing = tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))
        values = oriented
        if 1 in oriented.shape[1:]:  # a single slice is a 2D image, turned as a viewer shows it
            thin = _thin_axis(grid)
            values = np.swapaxes(oriented.squeeze(thin + 1), 1, 2)[:, ::-1, ::-1]
            spacing = tuple(size for number, size in enumerate(spacing) if number != thin)[::-1]
            affine = None
        elif not np.array_equal(orientation, _RAS):
            codes = "".join(orientations.ornt2axcodes(orientation))
            read.notes.append(
                f"The volume was turned from {codes} to RAS order; maps can be written back in its own grid."
            )
    shown = _display_range(values, read, window)
    return Image(
        values=torch.from_numpy(np.ascontiguousarray(values)),
        display_range=shown,
        sha256=sha256,
        format=read.format,
        full_range=read.full_range,
        spacing=spacing,
        affine=affine,
        grid=grid,
        modality=read.modality,
        frames=read.frames,
        notes=tuple(read.notes),
    )


def _display_range(values: Array, read: _Read, window: Window) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if isinstance(window, tuple):
        if len(window) != 2 or not window[1] > 0:
            raise ImageError(f"A window is (centre, width) with a positive width, not {window}.")
        return window[0] - window[1] / 2, window[0] + window[1] / 2
    if window not in ("dicom", None):
        raise ImageError(f'A window is "dicom", (centre, width) or None, not {window!r}.')
    if read.full_range == (0.0, 255.0):
        if window == "dicom" and read.window is not None:
            return read.window[0] - read.window[1] / 2, read.window[0] + read.window[1] / 2
        return read.full_range
    if window is None:
        return low, high
    if read.window is not None:
        return read.window[0] - read.window[1] / 2, read.window[0] + read.window[1] / 2
    step = max(1, values.size // 2**20)  # a million values are enough for two percentiles
    first, last = np.percentile(values.reshape(-1)[::step], (0.5, 99.5))
    return (float(first), float(last)) if last > first else (low, high)


# --- pictures ---


def _picture(data: bytes, kind: str, called: str, frame: int | None, labels: bool) -> _Read:
    """PNG, JPEG, BMP and WebP through Pillow."""
    with PillowImage.open(io.BytesIO(data), formats=(kind.upper(),)) as picture:
        _check_size(picture.width * picture.height * 4, called)
        count = int(getattr(picture, "n_frames", 1)) if kind in ("PNG", "WebP") else 1
        notes: list[str] = []
        if count > 1:
            picture.seek(_frame(frame, count, called, count // 2, notes))
        elif frame not in (None, 0):
            raise ImageError(f"{called} has one frame; frame {frame} does not exist.")
        picture.load()
        turned = ImageOps.exif_transpose(picture)
        if turned.size != picture.size or picture.getexif().get(0x0112, 1) != 1:
            notes.append("The picture was turned upright as its EXIF orientation asks.")
        mode = turned.mode
        sixteen = kind == "PNG" and data[24] == 16
        if sixteen and mode in ("RGB", "RGBA"):
            notes.append("Its 16-bit colours were read at 8 bits.")
        if mode == "P" and labels:
            pixels = np.asarray(turned)[None]
        elif mode in ("1", "L", "I", "I;16", "I;16B", "F"):
            pixels = np.asarray(turned.convert("L") if mode == "1" and not labels else turned)[None]
        else:
            grey = mode == "LA"
            if mode in ("RGBA", "LA", "PA") or (mode == "P" and "transparency" in turned.info):
                turned = turned.convert("RGBA")
                if np.asarray(turned.getchannel("A")).min() < 255:
                    notes.append("Its transparency was dropped.")
            pixels = np.asarray(turned.convert("RGB")).transpose(2, 0, 1)
            pixels = pixels[:1] if grey else pixels
    full = 65535.0 if pixels.dtype == np.uint16 or (mode == "I" and sixteen) else 255.0
    return _Read(pixels, kind, None if mode == "F" else (0.0, full), frames=count, notes=notes)


def _frame(frame: int | None, count: int, called: str, default: int, notes: list[str]) -> int:
    """Check a chosen frame, or choose and tell."""
    if frame is None:
        notes.append(f"Frame {default} of 0 to {count - 1} was taken; frame= chooses another.")
        return default
    if not 0 <= frame < count:
        raise ImageError(f"{called} has the frames 0 to {count - 1}; frame {frame} does not exist.")
    return frame


def _tiff(data: bytes, called: str, frame: int | None, labels: bool) -> _Read:
    """TIFF of any compression, bit depth and page count through tifffile."""
    notes: list[str] = []
    with tifffile.TiffFile(io.BytesIO(data)) as tiff:
        if not tiff.series:
            raise ImageError(f"{called} is a TIFF without an image in it.")
        series = tiff.series[0]
        page = series.keyframe
        _check_size(int(np.prod(series.shape, dtype=np.int64)), called)
        needed = sum(sum(part.databytecounts) for part in series.pages if part is not None)
        if needed > len(data):
            raise ImageError(
                f"{called} is a truncated TIFF: {needed:,} bytes of pixels are announced, the file has {len(data):,}."
            )
        if len(tiff.series) > 1:
            notes.append(f"The first of {len(tiff.series)} image series (or resolution levels) in the TIFF was taken.")
        pixels, axes = series.asarray(), series.axes
        photometric = page.photometric
        if photometric == tifffile.PHOTOMETRIC.PALETTE and not labels and page.colormap is not None:
            pixels = (page.colormap[:, pixels] >> 8).astype(np.uint8)
            axes = "C" + axes
        resolution = _tiff_spacing(page)
        if photometric == tifffile.PHOTOMETRIC.MINISWHITE and not labels:
            pixels = np.invert(pixels) if pixels.dtype.kind in "ub" else pixels.max() + pixels.min() - pixels
            notes.append("Stored with white as zero; inverted so that bright is high.")
    keep = [
        number
        for number, (letter, size) in enumerate(zip(axes, pixels.shape, strict=True))
        if size > 1 or letter in "YX"
    ]
    axes, pixels = "".join(axes[number] for number in keep), pixels.reshape([pixels.shape[number] for number in keep])
    colour = next((axes.index(letter) for letter in "SC" if letter in axes), None)
    if colour is None:
        pixels = pixels[None]
    else:
        pixels, axes = np.moveaxis(pixels, colour, 0), axes.replace(axes[colour], "")
        if axes[-1:] == "X" and photometric == tifffile.PHOTOMETRIC.RGB and pixels.shape[0] == 4:
            pixels = pixels[:3]
            notes.append("Its transparency was dropped.")
    frames = 1
    if "T" in axes or (frame is not None and pixels.ndim == 4):
        axis = 1 + (axes.index("T") if "T" in axes else 0)
        frames = pixels.shape[axis]
        pixels = np.take(pixels, _frame(frame, frames, called, frames // 2, notes), axis)
    elif pixels.ndim == 4:
        notes.append(
            f"The {pixels.shape[1]} pages of the TIFF were read as the slices of a volume; frame= takes one page."
        )
    elif frame not in (None, 0):
        raise ImageError(f"{called} has one page; frame {frame} does not exist.")
    if pixels.ndim > 4:
        raise ImageError(
            f"{called} is a TIFF with the axes {axes}; at most three spatial axes and one of time or channels are read."
        )
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * (1 if labels else 255)
    spacing = resolution if resolution is not None and pixels.ndim == 3 else None
    return _Read(pixels, "TIFF", _full_range(pixels.dtype), spacing=spacing, frames=frames, notes=notes)


def _tiff_spacing(page: Any) -> tuple[float, float] | None:
    """Millimetres per row and column, only where the writer gave a real unit (72 dpi are a printer's default)."""
    unit = {2: 25.4, 3: 10.0}.get(int(page.resolutionunit or 1))
    x, y = page.resolution
    dots_per_inch = {72.0, 96.0, 100.0, 150.0, 300.0, 600.0}
    if unit is None or min(x, y) <= 1 or (unit == 25.4 and float(x) in dots_per_inch):
        return None
    return unit / y, unit / x


def _full_range(dtype: np.dtype[Any]) -> tuple[float, float] | None:
    return {"uint8": (0.0, 255.0), "uint16": (0.0, 65535.0)}.get(dtype.name)


def _numpy(data: bytes, called: str) -> _Read:
    """One array of 2 axes, 3 (a volume, or a picture whose last axis is 3) or 4 (channels first)."""
    loaded = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(loaded, np.lib.npyio.NpzFile):
        with loaded:
            if len(loaded.files) != 1:
                raise ImageError(f"{called} holds {len(loaded.files)} arrays; an image file holds one.")
            loaded = loaded[loaded.files[0]]
    if loaded.dtype.kind not in "biuf":
        raise ImageError(f"{called} holds values of type {loaded.dtype}; images are numbers.")
    _check_size(loaded.size, called)
    full = _full_range(loaded.dtype)
    if loaded.ndim == 4:
        return _Read(loaded, "NumPy", full, notes=["The first of its four axes was read as channels."])
    if loaded.ndim == 3 and loaded.shape[-1] == 3:
        return _Read(np.moveaxis(loaded, -1, 0), "NumPy", full, notes=["Its last axis was read as colour."])
    if loaded.ndim in (2, 3):
        return _Read(loaded[None], "NumPy", full)
    raise ImageError(f"{called} is an array of {loaded.ndim} axes; images have 2, 3, or 4 with channels first.")


# --- NIfTI ---


def _nifti(data: bytes, called: str, frame: int | Literal["channels"] | None) -> _Read:
    head = _nifti_head(data)
    assert head is not None
    header_class = nib.Nifti2Header if head[4:8] == b"n+2\0" else nib.Nifti1Header
    image_class = nib.Nifti2Image if head[4:8] == b"n+2\0" else nib.Nifti1Image
    if head[344:348] == b"ni1\0":
        raise ImageError(f"{called} is one half of a .hdr/.img pair; save it as one .nii or .nii.gz file.")
    header = header_class.from_fileobj(  # type: ignore[no-untyped-call]
        io.BytesIO(head[: header_class.sizeof_hdr]), check=False
    )
    count = int(np.prod(header.get_data_shape(), dtype=np.int64))
    _check_size(count, called)
    needed = int(header["vox_offset"]) + count * header.get_data_dtype().itemsize
    if data[:2] == b"\x1f\x8b":
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as packed:
            data = packed.read(needed)  # no further: a bomb would unpack without end
    if len(data) < needed:
        raise ImageError(
            f"{called} is a truncated NIfTI file: {needed:,} bytes are announced, {len(data):,} are there."
        )
    nifti = image_class.from_bytes(data)
    pixels = np.asanyarray(nifti.dataobj)
    if pixels.dtype.kind not in "biuf":
        raise ImageError(f"{called} holds values of type {pixels.dtype}; colour and complex NIfTI files are not read.")
    notes: list[str] = []
    frames = 1
    while pixels.ndim > 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 5:
        raise ImageError(f"{called} has five axes ({times(pixels.shape)}), a vector field; an image has at most four.")
    if pixels.ndim == 4 and frame == "channels":
        pixels = np.moveaxis(pixels, -1, 0)
    elif pixels.ndim == 4:
        frames = pixels.shape[-1]
        assert frame != "channels"
        pixels = pixels[..., _frame(frame, frames, called, 0, notes)][None]
    elif frame not in (None, 0, "channels"):
        raise ImageError(f"{called} has one volume; frame {frame} does not exist.")
    else:
        pixels = pixels[None]
    if pixels.ndim == 2:
        raise ImageError(f"{called} holds one row of numbers, not an image.")
    affine = np.asarray(nifti.affine, dtype=np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ImageError(f"{called} has an affine that maps its voxels to nowhere; set its sform or qform.")
    unit = header.get_xyzt_units()[0]
    scale = {"meter": 1000.0, "micron": 0.001}.get(unit, 1.0)
    if scale != 1.0:
        affine = np.diag([scale, scale, scale, 1.0]) @ affine
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        notes.append("The file does not say how it is oriented; left and right may be swapped.")
    return _Read(pixels, "NIfTI", affine=affine, frames=frames, notes=notes)


# --- DICOM ---


def _dataset(data: bytes) -> Dataset:
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if dataset.get("PixelData") is not None and "TransferSyntaxUID" not in dataset.file_meta:
        little, implicit = dataset.original_encoding[1], dataset.original_encoding[0]
        uid = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = uid if little else pydicom.uid.ExplicitVRBigEndian
    return dataset


def _dicom(dataset: Dataset, called: str, frame: int | None) -> _Read:
    """One DICOM file: a picture, a cine or a multi-frame volume."""
    tag = str(dataset.get("Modality", "")).upper()
    if tag in _NOT_IMAGES or "PixelData" not in dataset:
        what = _NOT_IMAGES.get(tag, "no pixels")
        raise ImageError(f"{called} is a DICOM file that holds {what}, not an image.")
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError(f"{called} is a DICOM file whose header does not say how large its image is.")
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    count = int(dataset.get("NumberOfFrames") or 1)
    samples = int(dataset.SamplesPerPixel)
    notes: list[str] = []
    as_volume = count > 1 and frame is None and (tag in _VOLUMES or (tag == "NM" and _is_tomographic(dataset)))
    chosen = list(range(count))
    if count > 1 and not as_volume:
        chosen = [_frame(frame, count, called, count // 2, notes)]
    elif frame not in (None, 0) and count == 1:
        raise ImageError(f"{called} has one frame; frame {frame} does not exist.")
    _check_size(rows * columns * samples * len(chosen), called)
    affine = None
    if as_volume:
        chosen, affine = _frame_positions(dataset, count, notes)
    planes = [_pixels(dataset, number if count > 1 else None) for number in chosen]
    pixels = np.stack([plane for plane, _ in planes], axis=1)
    notes += dict.fromkeys(note for _, told in planes for note in told)
    spacing = _pixel_spacing(dataset, chosen[0])
    if affine is not None:
        pixels = pixels.transpose(0, 3, 2, 1)  # (C, frame, row, column) to (C, column, row, frame): the affine's order
    elif len(chosen) == 1:
        pixels = pixels[:, 0]
    elif spacing is not None:
        thick = _number(dataset, "SpacingBetweenSlices") or _number(dataset, "SliceThickness")
        spacing = (thick, *spacing) if thick else None
    if str(dataset.get("BurnedInAnnotation", "")).upper() == "YES":
        notes.append("The file says that text is burnt into its pixels: check that it shows no names before sharing.")
    return _Read(
        pixels,
        "DICOM",
        (0.0, 255.0) if _is_8bit(dataset) else None,
        _window(dataset, chosen[0], notes),
        spacing,
        affine,
        _MODALITIES.get(tag),
        1 if as_volume else count,
        notes,
    )


def _is_8bit(dataset: Dataset) -> bool:
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        return True
    if int(dataset.SamplesPerPixel) > 1:
        return True  # deeper colours are scaled to 0..255
    rescaled = dataset.get("RescaleSlope") is not None or "ModalityLUTSequence" in dataset
    return int(dataset.BitsStored) == 8 and not int(dataset.PixelRepresentation) and not rescaled


def _is_tomographic(dataset: Dataset) -> bool:
    return "TOMO" in {str(word).upper() for word in dataset.get("ImageType") or ()}


def _pixels(dataset: Dataset, number: int | None) -> tuple[Array, list[str]]:
    """One frame as (C, rows, columns) in real units, bright = dense; and what was done."""
    photometric = str(dataset.PhotometricInterpretation)
    raw = pixel_array(dataset, index=number)
    notes = []
    if photometric == "PALETTE COLOR":
        coloured = apply_color_lut(raw, dataset)
        depth = int(dataset.RedPaletteColorLookupTableDescriptor[2])
        coloured = coloured >> 8 if depth == 16 and coloured.max() > 255 else coloured
        return coloured[..., :3].transpose(2, 0, 1), ["Its colour palette was applied."]
    if raw.ndim == 3:
        if photometric.startswith("YBR"):
            notes.append(f"Its colours were converted from {photometric} to RGB.")
        bits = int(dataset.BitsStored)
        colours = raw.transpose(2, 0, 1)
        if bits > 8:
            colours = colours.astype(np.float64) * (255.0 / (2**bits - 1))
            notes.append(f"Its {bits}-bit colours were scaled to 0..255.")
        return colours, notes
    if "ModalityLUTSequence" in dataset:
        values = apply_modality_lut(raw, dataset).astype(np.float64)
        notes.append("Its modality lookup table was applied.")
    else:
        slope, intercept = _rescale(dataset, number or 0)
        values = raw * slope + intercept if (slope, intercept) != (1.0, 0.0) else raw
    if photometric == "MONOCHROME1":
        values = _mirror(dataset, number or 0) - values.astype(np.float64)
        notes.append("Stored with white as low (MONOCHROME1); inverted so that bright is dense.")
    return values[None], notes


def _mirror(dataset: Dataset, number: int) -> float:
    """The sum of the lowest and the highest storable value, in real units: v becomes this minus v when inverted."""
    if "ModalityLUTSequence" in dataset:
        table = np.asarray(dataset.ModalityLUTSequence[0].LUTData)
        return float(table.min()) + float(table.max())
    bits = int(dataset.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if int(dataset.PixelRepresentation) else (0, 2**bits - 1)
    slope, intercept = _rescale(dataset, number)
    return float((low + high) * slope + 2 * intercept)


def _groups(dataset: Dataset, number: int, name: str) -> Dataset | None:
    """A functional group of an enhanced multi-frame file: of the frame, or shared by all."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in ([per_frame[number]] if number < len(per_frame) else []) + list(shared[:1]):
        if group.get(name):
            found: Dataset = group[name].value[0]
            return found
    return None


def _number(dataset: Dataset | None, name: str) -> float | None:
    """The first number of a tag, or None when it is absent or empty."""
    value: Any = None if dataset is None else dataset.get(name)
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, (list, pydicom.multival.MultiValue)) else value)


def _rescale(dataset: Dataset, number: int) -> tuple[float, float]:
    where = _groups(dataset, number, "PixelValueTransformationSequence") or dataset
    slope, intercept = _number(where, "RescaleSlope"), _number(where, "RescaleIntercept")
    return (1.0 if slope is None else slope), (0.0 if intercept is None else intercept)


def _window(dataset: Dataset, number: int, notes: list[str]) -> tuple[float, float] | None:
    """Centre and width in the units of the values, as they are after any inversion."""
    where = _groups(dataset, number, "FrameVOILUTSequence") or dataset
    centre, width = _number(where, "WindowCenter"), _number(where, "WindowWidth")
    if centre is None or not width or width <= 0:
        tables = dataset.get("VOILUTSequence")
        if not tables:
            return None
        entries, first = (int(value) for value in tables[0].LUTDescriptor[:2])
        centre, width = first + (entries or 65536) / 2, float(entries or 65536)
        notes.append("Its display table (VOI LUT) is shown as a straight ramp over the table's range.")
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        centre = _mirror(dataset, number) - centre
    return centre, width


def _pixel_spacing(dataset: Dataset, number: int) -> tuple[float, ...] | None:
    """Millimetres between rows and between columns."""
    measures = _groups(dataset, number, "PixelMeasuresSequence")
    names = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
    for where, name in ((measures, "PixelSpacing"), *((dataset, name) for name in names)):
        value = None if where is None else where.get(name)
        if value and len(value) == 2 and min(map(float, value)) > 0:
            return float(value[0]), float(value[1])
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    deltas = {
        (abs(float(region.get("PhysicalDeltaY", 0))), abs(float(region.get("PhysicalDeltaX", 0))))
        for region in regions
        if region.get("PhysicalUnitsXDirection") == 3 and region.get("PhysicalUnitsYDirection") == 3  # centimetres
    }
    if len(deltas) == 1:  # regions of different scale have no common spacing
        y, x = deltas.pop()
        return (10 * y, 10 * x) if min(x, y) > 0 else None
    return None


def _plane(where: Dataset | None, orientation: Dataset | None) -> tuple[Array, Array, Array] | None:
    """Position and the directions of growing column and row index, in LPS millimetres."""
    position = None if where is None else where.get("ImagePositionPatient")
    cosines = None if orientation is None else orientation.get("ImageOrientationPatient")
    if not position or not cosines or len(position) != 3 or len(cosines) != 6:
        return None
    directions = np.asarray(cosines, dtype=np.float64)
    return np.asarray(position, dtype=np.float64), directions[:3], directions[3:]


def _frame_positions(dataset: Dataset, count: int, notes: list[str]) -> tuple[list[int], Array | None]:
    """Order the frames of a multi-frame volume along its normal, and give its affine when it has positions."""
    planes = []
    for number in range(count):
        plane = _plane(
            _groups(dataset, number, "PlanePositionSequence"), _groups(dataset, number, "PlaneOrientationSequence")
        )
        if plane is None:
            notes.append(f"Its {count} frames were read as slices in file order: they carry no positions.")
            return list(range(count)), None
        planes.append(plane)
    spacing = _pixel_spacing(dataset, 0)
    return _stack(planes, spacing, notes, "frames")


def _stack(
    planes: Sequence[tuple[Array, Array, Array]], spacing: tuple[float, ...] | None, notes: list[str], what: str
) -> tuple[list[int], Array | None]:
    """Sort planes by position: their order, and the affine (column, row, slice) to RAS; None without pixel spacing."""
    _, column, row = planes[0]
    same = [plane for plane in planes if np.allclose(plane[1:], (column, row), atol=1e-3)]
    if len(same) < len(planes):
        raise ImageError(
            f"{len(planes) - len(same)} of {len(planes)} {what} are turned otherwise: choose one with frame=."
        )
    normal = np.cross(column, row)
    depth = np.array([plane[0] @ normal for plane in planes])
    order = [int(number) for number in np.argsort(depth, kind="stable")]
    kept = [
        number for place, number in enumerate(order) if place == 0 or depth[number] - depth[order[place - 1]] > 1e-3
    ]
    if len(kept) < len(order):
        notes.append(
            f"{len(order)} {what} share {len(kept)} positions (echoes, times or phases): the first of each was taken."
        )
    if len(kept) == 1 or spacing is None:
        return kept, None
    steps = np.diff(depth[kept])
    if steps.max() > 1.05 * steps.min() + 1e-3:
        notes.append(
            f"The distance between slices varies from {steps.min():.2f} to {steps.max():.2f} mm: slices may be missing."
        )
    first, last = planes[kept[0]][0], planes[kept[-1]][0]
    affine = np.eye(4)
    affine[:3, 0] = column * spacing[1]  # the first index runs along a row of pixels
    affine[:3, 1] = row * spacing[0]
    affine[:3, 2] = (last - first) / (len(kept) - 1)
    affine[:3, 3] = first
    return kept, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _slices(files: Sequence[Path]) -> Iterator[bytes]:
    """The bytes of the DICOM files of a folder, one at a time; other files do not count."""
    for path in files:
        try:
            if path.stat().st_size > MAX_BYTES:
                continue
            data = path.read_bytes()
        except OSError as error:
            raise ImageError(f"{path.name} cannot be read: {error.strerror}.") from error
        if data and _kind(data) == "DICOM":
            yield data


def _series(files: Iterable[bytes], called: str, frame: int | None | Literal["channels"], window: Window) -> Image:
    """DICOM slices that belong together, as a volume."""
    groups: dict[tuple[str, int, int], list[tuple[Dataset, str]]] = {}
    total = 0
    with _quiet():
        for data in files:
            try:
                dataset = _dataset(data) if _kind(data) == "DICOM" else Dataset()
            except Exception as error:
                raise ImageError(f"A slice of {called} is a damaged DICOM file: {_reason(error)}.") from error
            if "PixelData" not in dataset or str(dataset.get("Modality", "")).upper() in _NOT_IMAGES:
                continue
            total += len(data)
            if total > MAX_BYTES:
                raise ImageError(f"{called} holds more than {MAX_BYTES // 2**30} GiB of slices.")
            key = (str(dataset.get("SeriesInstanceUID", "")), int(dataset.Rows), int(dataset.Columns))
            groups.setdefault(key, []).append((dataset, hashlib.sha256(data).hexdigest()))
        if not groups:
            raise ImageError(f"{called} holds no DICOM images; a folder is read as the slices of one DICOM series.")
        members = max(groups.values(), key=len)
        notes = []
        if len(groups) > 1:
            notes.append(f"{len(groups)} series were found; the largest, of {len(members)} images, was taken.")
        sha256 = hashlib.sha256("".join(sorted(digest for _, digest in members)).encode()).hexdigest()
        try:
            read = _volume([dataset for dataset, _ in members], called, frame, notes)
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(f"{called} holds a damaged or unsupported DICOM slice: {_reason(error)}.") from error
    return _finish(read, sha256, called, window)


def _volume(slices: list[Dataset], called: str, frame: int | None | Literal["channels"], notes: list[str]) -> _Read:
    if frame == "channels":
        raise ImageError('frame="channels" is for 4D NIfTI files; a DICOM series is read as one volume.')
    many = [dataset for dataset in slices if int(dataset.get("NumberOfFrames") or 1) > 1]
    if len(slices) == 1:
        read = _dicom(slices[0], called, frame)
        read.notes[:0] = notes
        return read
    if many:
        raise ImageError(f"{called} holds {len(many)} multi-frame files; load one of them by its own path.")
    planes = [_plane(dataset, dataset) for dataset in slices]
    placed = [(dataset, plane) for dataset, plane in zip(slices, planes, strict=True) if plane is not None]
    if not placed:
        raise ImageError(
            f"{called} holds {len(slices)} DICOM images without positions, so no volume; load one by its own path."
        )
    if len(placed) < len(slices):
        notes.append(f"{len(slices) - len(placed)} images without a position were left out.")
    # a localiser in the same series is turned otherwise: keep the commonest direction
    turns = Counter(tuple(np.round(np.concatenate(plane[1:]), 2)) for _, plane in placed)
    turn, _ = turns.most_common(1)[0]
    aligned = [pair for pair in placed if tuple(np.round(np.concatenate(pair[1][1:]), 2)) == turn]
    if len(aligned) < len(placed):
        notes.append(f"{len(placed) - len(aligned)} images that are turned otherwise (localisers) were left out.")
    order, affine = _stack([plane for _, plane in aligned], _pixel_spacing(aligned[0][0], 0), notes, "slices")
    kept = [aligned[number][0] for number in order]
    if frame is not None:
        if not 0 <= frame < len(kept):
            raise ImageError(f"{called} has the slices 0 to {len(kept) - 1}; slice {frame} does not exist.")
        return _dicom(kept[frame], called, None)
    if len(kept) == 1:
        return _dicom(kept[0], called, None)
    first = kept[0]
    _check_size(int(first.Rows) * int(first.Columns) * len(kept) * int(first.SamplesPerPixel), called)
    planes_read = [_pixels(dataset, None) for dataset in kept]
    pixels = np.stack([plane for plane, _ in planes_read], axis=1)
    notes += dict.fromkeys(note for _, told in planes_read for note in told)
    if affine is None:
        notes.append("Its slices carry no pixel spacing: the volume has no orientation.")
    else:
        pixels = pixels.transpose(0, 3, 2, 1)
    tag = str(first.get("Modality", "")).upper()
    return _Read(
        pixels,
        "DICOM",
        (0.0, 255.0) if _is_8bit(first) else None,
        _window(kept[len(kept) // 2], 0, notes),
        None,
        affine,
        _MODALITIES.get(tag),
        1,
        notes,
    )
