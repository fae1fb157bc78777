"""Reading images: real files of every format, and damaged ones."""

from __future__ import annotations

import dataclasses
import gzip
import io
import warnings
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import tifffile
import torch
from PIL import Image as Pillow
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian

from runners.images import Image, load_image, load_mask
from taxonomy.errors import ImageError

ASSETS = Path(__file__).parents[2] / "shared" / "assets"


def dicom(name: str) -> str:
    """A test file of pydicom or pydicom-data, never downloaded."""
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"{name} is part of pydicom-data, which is not installed")
    return str(path)


def asset(*parts: str) -> Path:
    path = ASSETS.joinpath(*parts)
    if not path.exists():
        pytest.skip("../shared/assets is not here")
    return path


def png(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(array).save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.fixture
def grey() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 17), dtype=np.uint8)


# --- pictures ---


@pytest.mark.parametrize(
    ("kind", "exact"), [("PNG", True), ("BMP", True), ("TIFF", True), ("WebP", True), ("JPEG", False)]
)
def test_pictures_keep_their_values(kind: str, exact: bool) -> None:
    rows = np.linspace(0, 255, 24).astype(np.uint8)
    colour = np.stack([np.tile(rows, (16, 1)), np.tile(rows[::-1], (16, 1)), np.full((16, 24), 90, np.uint8)], -1)
    buffer = io.BytesIO()
    Pillow.fromarray(colour).save(buffer, kind, **({"lossless": True} if kind == "WebP" else {}))
    image = load_image(buffer.getvalue())
    assert (image.format, image.dims, image.channels, image.shape) == (kind, 2, 3, (16, 24))
    assert image.values.dtype == torch.float32
    off = (image.values - torch.from_numpy(colour).permute(2, 0, 1)).abs().max()
    assert off == 0 if exact else 0 < off < 40
    assert image.full_range == image.display_range == (0, 255)
    assert image.display().shape == (16, 24, 3)


def test_content_decides_not_the_name(tmp_path: Path, grey: np.ndarray) -> None:
    path = tmp_path / "scan.dcm"
    path.write_bytes(png(grey))
    assert load_image(path).format == "PNG"


def test_sources_are_the_same(tmp_path: Path, grey: np.ndarray) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(grey))
    with path.open("rb") as file:
        images = [load_image(path), load_image(str(path)), load_image(path.read_bytes()), load_image(file)]
    assert len({image.sha256 for image in images}) == 1
    assert all(torch.equal(image.values, images[0].values) for image in images)


def test_16_bit_png_and_tiff_keep_all_values(grey: np.ndarray) -> None:
    deep = grey.astype(np.uint16) * 257
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, deep, compression="zlib")
    for data in (png(deep), buffer.getvalue()):
        image = load_image(data)
        assert torch.equal(image.values[0], torch.from_numpy(deep.astype(np.float32)))
        assert image.full_range == (0, 65535)


def test_palette_and_transparency(grey: np.ndarray) -> None:
    indexed = Pillow.fromarray(grey % 3).convert("P")
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    buffer = io.BytesIO()
    indexed.save(buffer, "PNG")
    image = load_image(buffer.getvalue())
    assert image.channels == 3
    assert torch.equal(image.values[0] == 255, torch.from_numpy(grey % 3 == 1))
    mask = load_mask(buffer.getvalue(), like=image)
    assert torch.equal(mask, torch.from_numpy((grey % 3).astype(np.int64)))

    rgba = np.dstack([grey] * 3 + [np.full_like(grey, 100)])
    image = load_image(png(rgba))
    assert image.channels == 3
    assert any("transparency" in note for note in image.notes)


def test_exif_orientation_is_applied(grey: np.ndarray) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Pillow.fromarray(grey).save(buffer, "JPEG", exif=exif)
    image = load_image(buffer.getvalue())
    assert image.shape == (17, 12)
    assert any("EXIF" in note for note in image.notes)


def test_tiff_pages_are_a_volume_or_one_page(grey: np.ndarray) -> None:
    stack = np.stack([grey, grey // 2, grey // 3, grey // 4])
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stack, photometric="minisblack")
    volume = load_image(buffer.getvalue())
    assert (volume.dims, volume.shape) == (3, (4, 12, 17))
    assert any("slices of a volume" in note for note in volume.notes)
    page = load_image(buffer.getvalue(), frame=2)
    assert (page.dims, page.frames) == (2, 4)
    assert torch.equal(page.values[0], torch.from_numpy((grey // 3).astype(np.float32)))
    with pytest.raises(ImageError, match="frames 0 to 3; frame 4"):
        load_image(buffer.getvalue(), frame=4)


def test_tiff_time_gives_a_frame_and_white_is_zero_is_inverted(grey: np.ndarray) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([grey] * 5), imagej=True, metadata={"axes": "TYX"})
    image = load_image(buffer.getvalue())
    assert (image.dims, image.frames) == (2, 5)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, grey, photometric="miniswhite")
    image = load_image(buffer.getvalue())
    assert torch.equal(image.values[0], 255 - torch.from_numpy(grey.astype(np.float32)))


def test_numpy_files(grey: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, grey)
    assert load_image(buffer.getvalue()).shape == (12, 17)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, volume=np.zeros((3, 4, 5), np.float32))
    image = load_image(buffer.getvalue())
    assert image.shape == (3, 4, 5)
    assert any("Every value is 0" in note for note in image.notes)
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ImageError):
        load_image(buffer.getvalue())


# --- DICOM ---


@pytest.mark.parametrize(
    ("compressed", "plain", "tolerance"),
    [
        ("JPEG2000.dcm", "JPEG2000_UNC.dcm", 0),
        ("693_J2KI.dcm", "693_UNCI.dcm", 0),
        ("MR_small_RLE.dcm", "MR_small.dcm", 0),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
        ("MR_small_bigendian.dcm", "MR_small.dcm", 0),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb.dcm", 0),  # JPEG lossless
        ("SC_rgb_jpeg.dcm", "SC_rgb_jpeg_dcmd.dcm", 1),  # JPEG baseline, decoded by another library
        ("SC_ybr_full_uncompressed.dcm", "SC_rgb.dcm", 6),
        ("US1_J2KR.dcm", "US1_UNCR.dcm", 0),
        ("emri_small_jpeg_ls_lossless.dcm", "emri_small.dcm", 0),
    ],
)
def test_compressed_dicom_equals_uncompressed(compressed: str, plain: str, tolerance: float) -> None:
    first, second = load_image(dicom(compressed)), load_image(dicom(plain))
    assert first.values.shape == second.values.shape
    assert first.values.std() > 0
    assert (first.values - second.values).abs().max() <= tolerance


def test_rescale_gives_hounsfield_units_and_the_window_is_the_display_range() -> None:
    image = load_image(dicom("693_J2KR.dcm"))
    dataset = pydicom.dcmread(dicom("693_J2KR.dcm"))
    assert torch.equal(image.values[0], torch.from_numpy(dataset.pixel_array.astype(np.float32) - 1024))
    assert image.modality == "ct"
    assert image.display_range == (-10, 90)
    assert image.spacing == pytest.approx((0.478516, 0.478516))
    assert load_image(dicom("693_J2KR.dcm"), window=(0, 2000)).display_range == (-1000, 1000)
    whole = load_image(dicom("693_J2KR.dcm"), window=None)
    assert whole.display_range == (float(image.values.min()), float(image.values.max()))
    shown = image.display()
    assert shown.min() == 0
    assert shown.max() == 1
    with pytest.raises(ImageError, match="positive width"):
        load_image(dicom("693_J2KR.dcm"), window=(0, -5))


def test_monochrome1_is_inverted_with_its_window() -> None:
    image = load_image(dicom("RG1_UNCR.dcm"))
    dataset = pydicom.dcmread(dicom("RG1_UNCR.dcm"))
    assert dataset.PhotometricInterpretation == "MONOCHROME1"
    assert torch.equal(image.values[0], torch.from_numpy(32767 - dataset.pixel_array.astype(np.float32)))
    # pydicom's window on the stored values, then inverted, is the same picture
    low = float(dataset.WindowCenter) - float(dataset.WindowWidth) / 2
    stored = ((dataset.pixel_array - low) / float(dataset.WindowWidth)).clip(0, 1)
    assert torch.allclose(image.display(), torch.from_numpy(1 - stored).float(), atol=1e-4)
    # bone and heart are bright, the air beside the neck is dark
    shown = image.display()
    assert image.modality == "xray"
    assert shown[1300:1500, 850:950].mean() > shown[600:800, 500:600].mean() + 0.2
    assert any("MONOCHROME1" in note for note in image.notes)


def test_palette_ybr_and_cine() -> None:
    image = load_image(dicom("examples_palette.dcm"))
    assert (image.channels, image.modality, image.display_range) == (3, "ultrasound", (0, 255))
    assert image.values.max() > 200
    cine = load_image(dicom("examples_ybr_color.dcm"))
    assert (cine.dims, cine.channels, cine.frames) == (2, 3, 30)
    assert any("Frame 15 of 0 to 29" in note for note in cine.notes)
    dataset = pydicom.dcmread(dicom("examples_ybr_color.dcm"))
    assert torch.equal(cine.values, torch.from_numpy(dataset.pixel_array[15].astype(np.float32)).permute(2, 0, 1))
    assert not torch.equal(load_image(dicom("examples_ybr_color.dcm"), frame=0).values, cine.values)
    with pytest.raises(ImageError, match="0 to 29"):
        load_image(dicom("examples_ybr_color.dcm"), frame=30)


def test_ultrasound_regions_give_spacing() -> None:
    dataset = pydicom.dcmread(dicom("examples_palette.dcm"))
    delta = float(dataset.SequenceOfUltrasoundRegions[0].PhysicalDeltaX)
    assert load_image(dicom("examples_palette.dcm")).spacing == pytest.approx((10 * delta, 10 * delta), rel=1e-3)


def test_enhanced_ct_is_an_oriented_volume() -> None:
    image = load_image(dicom("eCT_Supplemental.dcm"))
    assert (image.dims, image.shape, image.modality) == (3, (512, 512, 2), "ct")
    assert image.spacing == pytest.approx((0.388672, 0.388672, 10.0), rel=1e-3)
    assert image.values.min() == -1024
    assert load_image(dicom("eCT_Supplemental.dcm"), frame=1).dims == 2


def test_enhanced_frames_are_sorted_and_rescaled_each() -> None:
    dataset = pydicom.dcmread(dicom("CT_small.dcm"))
    frames = np.stack([np.full((4, 5), level, np.int16) for level in (30, 10, 20)])
    for name in ("RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"):
        del dataset[name]
    dataset.SOPClassUID, dataset.Modality = EnhancedMRImageStorage, "MR"
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames, dataset.PixelData = 4, 5, 3, frames.tobytes()
    shared, measures, direction = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, direction.ImageOrientationPatient = [2, 3], [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = Sequence([measures]), Sequence([direction])
    groups = []
    for z, slope in ((30, 3), (10, 1), (20, 2)):
        group, place, value = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient, value.RescaleSlope, value.RescaleIntercept = [7, 8, z], slope, 0
        group.PlanePositionSequence, group.PixelValueTransformationSequence = Sequence([place]), Sequence([value])
        groups.append(group)
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = (
        Sequence([shared]),
        Sequence(groups),
    )
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    image = load_image(buffer.getvalue())
    assert image.shape == (5, 4, 3)
    assert image.spacing == (3, 2, 10)
    assert image.values[0, 0, 0].tolist() == [10, 40, 90]


def write_slice(
    path: Path, z: float, level: int, *, series: str = "1.2.3", turned: bool = False, side: int = 6
) -> None:
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.StudyDescription = "Doe^Jane", "PAT-4711", "secret study"
    dataset.Modality, dataset.SeriesInstanceUID = "CT", series
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (
        side,
        4,
        1,
        "MONOCHROME2",
    )
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1000
    dataset.PixelSpacing = [0.5, 0.75]
    dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1] if turned else [1, 0, 0, 0, 1, 0]
    dataset.ImagePositionPatient = [-10, -20, z]
    pixels = np.full((side, 4), level, np.int16)
    pixels[1, 2] = 1000  # row 1, column 2
    dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    for number, z in enumerate((30, 10, 25, 15, 20)):  # file order is not slice order
        write_slice(tmp_path / f"{number}.dcm", z, int(z))
    (tmp_path / "readme.txt").write_text("not an image")
    return tmp_path


def test_folder_becomes_a_sorted_volume_in_ras(series: Path) -> None:
    image = load_image(series)
    assert (image.shape, image.channels, image.modality, image.format) == ((4, 6, 5), 1, "ct", "DICOM")
    assert image.spacing == (0.75, 0.5, 5.0)
    assert image.values[0, 0, 0].tolist() == [2 * z - 1000 for z in (10, 15, 20, 25, 30)]
    # the marked pixel lies where DICOM says: LPS (-10 + 2 * 0.75, -20 + 1 * 0.5), so RAS is its mirror
    spot = (image.values[0, :, :, 0] == 1000).nonzero()[0].tolist()
    world = image.affine @ np.array([*spot, 0, 1])
    assert world[:3] == pytest.approx([8.5, 19.5, 10])
    assert np.all(np.diag(image.affine)[:3] > 0)
    assert load_image([path.read_bytes() for path in series.glob("*.dcm")]).sha256 == image.sha256
    assert load_image(series, frame=1).values[0, 0, 0] == 2 * 15 - 1000


def test_localisers_second_series_and_gaps_are_told(series: Path) -> None:
    write_slice(series / "localiser.dcm", 0, 1, turned=True)
    write_slice(series / "other.dcm", 0, 1, series="9.9")
    write_slice(series / "far.dcm", 60, 60)
    notes = " ".join(load_image(series).notes)
    assert "2 series" in notes
    assert "localisers" in notes
    assert "slices may be missing" in notes


def test_nothing_of_the_patient_is_kept(series: Path, tmp_path: Path) -> None:
    named = tmp_path / "Doe_Jane_4711.dcm"
    (series / "0.dcm").rename(named)
    for image in (load_image(series), load_image(named)):
        text = repr([getattr(image, item.name) for item in dataclasses.fields(image) if item.name != "values"])
        for secret in ("Doe", "Jane", "4711", "secret"):
            assert secret not in text


@pytest.mark.parametrize("name", ["rtstruct.dcm", "rtdose.dcm", "test-SR.dcm", "waveform_ecg.dcm", "liver.dcm"])
def test_dicom_without_an_image(name: str) -> None:
    with pytest.raises(ImageError, match="not an image"):
        load_image(dicom(name))


def test_dicom_without_preamble() -> None:
    data = Path(dicom("MR_small.dcm")).read_bytes()
    assert load_image(data[132:]).shape == (64, 64)


# --- NIfTI ---


def nifti(array: np.ndarray, affine: np.ndarray | None = None, *, pack: bool = True) -> bytes:
    data = nib.Nifti1Image(array, np.eye(4) if affine is None else affine).to_bytes()
    return gzip.compress(data) if pack else data


AFFINES = {
    "RAS": np.diag([1.0, 2, 3, 1]),
    "LPS": np.diag([-1.0, -2, 3, 1]),
    "PIR": np.array([[0, 0, 3.0, -5], [-1, 0, 0, 6], [0, -2, 0, 7], [0, 0, 0, 1]]),
    "oblique": np.array([[0.9, -0.3, 0, 1], [0.3, 1.9, 0.1, 2], [0, -0.1, 3, 3], [0, 0, 0, 1]]),
}


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("pack", [True, False])
def test_nifti_is_ras_and_goes_back(name: str, pack: bool) -> None:
    array = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    image = load_image(nifti(array, AFFINES[name], pack=pack))
    reference = nib.as_closest_canonical(nib.Nifti1Image(array, AFFINES[name]))
    assert np.array_equal(image.values[0].numpy(), reference.get_fdata(dtype=np.float32))
    assert image.affine == pytest.approx(reference.affine)
    assert image.spacing == pytest.approx(reference.header.get_zooms(), rel=1e-5)
    back, affine = image.to_original(image.values[0])
    assert np.array_equal(back.numpy(), array)
    assert affine == pytest.approx(AFFINES[name])


def test_display_has_anterior_and_superior_on_top_and_right_on_the_left() -> None:
    volume = np.zeros((7, 8, 9), np.float32)
    volume[5, 6, 7] = 1  # right, anterior, superior
    image = load_image(nifti(volume), window=None)
    assert (image.display(2, 7) == 1).nonzero().tolist() == [[1, 1]]  # axial: (rows from anterior, columns from right)
    assert (image.display(1, 6) == 1).nonzero().tolist() == [[1, 1]]  # coronal: (from superior, from right)
    assert (image.display(0, 5) == 1).nonzero().tolist() == [[1, 1]]  # sagittal: (from superior, from anterior)
    assert image.display(2).shape == (8, 7)
    assert torch.equal(image.slice(2, 7).display(), image.display(2, 7))
    assert image.slice(2, 7).dims == 2
    with pytest.raises(ImageError, match="slices 0 to 8, not 9"):
        image.display(2, 9)
    with pytest.raises(ImageError, match="axes 0, 1 and 2"):
        image.slice(3)


def test_views_of_maps_match_the_display() -> None:
    array = np.random.default_rng(2).normal(size=(4, 5, 6)).astype(np.float32)
    image = load_image(nifti(array, AFFINES["PIR"]), window=None)
    low, high = image.display_range
    for axis in range(3):
        shown = image.view(image.values[0], axis, 1) * 1.0
        assert torch.allclose((shown - low) / (high - low), image.display(axis, 1))
    with pytest.raises(ImageError, match="not on the image's grid"):
        image.view(torch.zeros(4, 4, 4), 0, 0)


def test_single_slice_nifti_is_2d_and_goes_back() -> None:
    array = np.random.default_rng(3).normal(size=(5, 7)).astype(np.float32)
    for given in (array, array[..., None], array[:, None]):
        image = load_image(nifti(given, AFFINES["LPS"]))
        assert image.dims == 2
        back, _ = image.to_original(image.values[0])
        assert np.array_equal(back.numpy(), given)


def test_4d_nifti_gives_a_volume_or_channels() -> None:
    array = np.random.default_rng(4).normal(size=(4, 5, 6, 3)).astype(np.float32)
    image = load_image(nifti(array))
    assert (image.channels, image.frames) == (1, 3)
    assert np.array_equal(load_image(nifti(array), frame=2).values[0].numpy(), array[..., 2])
    assert np.array_equal(load_image(nifti(array), frame="channels").values.numpy(), np.moveaxis(array, -1, 0))
    with pytest.raises(ImageError, match="0 to 2; frame 3"):
        load_image(nifti(array), frame=3)


def test_nilearn_template_is_upright() -> None:
    nilearn = pytest.importorskip("nilearn")
    data = Path(nilearn.__file__).parent / "datasets" / "data"
    image = load_image(data / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    assert image.spacing == (1, 1, 1)
    assert image.shape == (197, 233, 189)
    coronal = image.display(1)
    rows = (coronal > 0.2).any(1).nonzero()
    # on top is the vertex, narrower than the temporal lobes below
    assert (coronal[rows[5]] > 0.2).sum() < (coronal[rows[len(rows) // 2]] > 0.2).sum()


def test_hippocampus_with_its_mask() -> None:
    folder = asset("mri", "hippocampus")
    name = sorted(path.name for path in (folder / "images").iterdir())[0]
    image = load_image(folder / "images" / name)
    mask = load_mask(folder / "labels" / name, like=image)
    assert mask.shape == image.shape
    assert mask.unique().tolist() == [0, 1, 2]


# --- masks ---


def test_masks() -> None:
    folder = asset("fundus", "drive")
    mask = load_mask(folder / "21_vessels.png", like=load_image(folder / "21.png"))
    assert mask.dtype == torch.bool
    assert 0.02 < mask.float().mean() < 0.2
    cells = asset("microscopy", "dsb2018")
    labels = sorted(cells.glob("*_instances.png"))[0]
    instances = load_mask(labels, like=load_image(cells / labels.name.replace("_instances", "")))
    assert instances.dtype == torch.int64
    assert instances.max() > 1


def test_masks_that_do_not_fit(grey: np.ndarray) -> None:
    image = load_image(png(grey))
    with pytest.raises(ImageError, match="12×16, the image is 12×17"):
        load_mask(png(grey[:, :16]), like=image)
    with pytest.raises(ImageError, match="coloured"):
        load_mask(png(np.dstack([grey, grey // 2, grey // 3])), like=image)
    buffer = io.BytesIO()
    Pillow.fromarray(grey).save(buffer, "JPEG")
    with pytest.raises(ImageError, match="JPEG"):
        load_mask(buffer.getvalue(), like=image)
    volume = load_image(nifti(np.ones((3, 4, 5), np.float32)))
    far = np.eye(4)
    far[2, 3] = 40
    with pytest.raises(ImageError, match="40.0 mm away"):
        load_mask(nifti(np.ones((3, 4, 5), np.float32), far), like=volume)
    with pytest.raises(ImageError, match="fractions"):
        load_mask(nifti(np.full((3, 4, 5), 0.5, np.float32)), like=volume)


# --- bad input ---


def truncated() -> dict[str, bytes]:
    noise = np.random.default_rng(5).integers(0, 256, (64, 64), dtype=np.uint8)
    files = {"x.png": png(noise)}
    for kind in ("JPEG", "BMP", "WebP"):
        buffer = io.BytesIO()
        Pillow.fromarray(noise).save(buffer, kind)
        files[f"x.{kind.lower()}"] = buffer.getvalue()
    for name, options in (("plain.tif", {}), ("packed.tif", {"compression": "zlib"})):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, noise, **options)
        files[name] = buffer.getvalue()
    files["x.nii"] = nifti(noise, pack=False)
    files["x.nii.gz"] = nifti(noise)
    buffer = io.BytesIO()
    np.save(buffer, noise)
    files["x.npy"] = buffer.getvalue()
    for name in ("CT_small.dcm", "JPEG2000.dcm", "SC_rgb_jpeg_gdcm.dcm", "MR_small_RLE.dcm", "SC_rgb_jpeg.dcm"):
        files[name] = Path(str(get_testdata_file(name, download=False))).read_bytes()
    return files


@pytest.mark.parametrize("name", list(truncated()))
@pytest.mark.parametrize("keep", [0.05, 0.5, 0.9])
def test_truncated_files_are_refused(name: str, keep: float) -> None:
    data = truncated()[name]
    assert load_image(data, name=name).values.numel() > 0
    with pytest.raises(ImageError) as caught:
        load_image(data[: int(keep * len(data))], name=name)
    message = str(caught.value)
    assert message.startswith(name)
    assert "\n" not in message
    if name in ("plain.tif", "x.nii") and keep > 0.1:
        assert "announced" in message


def test_text_named_png_empty_missing_and_folders(tmp_path: Path) -> None:
    path = tmp_path / "scan.png"
    path.write_text("hello, I am not a picture")
    with pytest.raises(ImageError, match=r"scan\.png cannot be read: its name ends in \.png, but"):
        load_image(path)
    path.write_bytes(b"")
    with pytest.raises(ImageError, match="empty"):
        load_image(path)
    with pytest.raises(ImageError, match="no file 'nowhere.png'"):
        load_image(tmp_path / "nowhere.png")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ImageError, match="holds no files"):
        load_image(empty)
    for number in range(2):
        (empty / f"{number}.txt").write_text("text")
    with pytest.raises(ImageError, match="no DICOM images"):
        load_image(empty)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(bad: float) -> None:
    array = np.ones((3, 4, 5), np.float32)
    array[1, 1, 1] = bad
    with pytest.raises(ImageError, match="1 values that are NaN or infinite"):
        load_image(nifti(array))


def test_bombs_are_refused_before_decoding() -> None:
    header = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).header
    header.set_data_shape((3000, 3000, 3000))
    with pytest.raises(ImageError, match="27,000,000,000 values"):
        load_image(gzip.compress(header.binaryblock + bytes(100)))
    # a PNG header of 60,000 x 60,000 with no pixels
    body = b"IHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    chunk = (13).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    with pytest.raises(ImageError, match="at most"):
        load_image(b"\x89PNG\r\n\x1a\n" + chunk + b"\x00\x00\x00\x00IDAT" + zlib.crc32(b"IDAT").to_bytes(4, "big"))
    dataset = pydicom.dcmread(dicom("CT_small.dcm"))
    dataset.Rows = dataset.Columns = 65000
    buffer = io.BytesIO()
    dataset.save_as(buffer)
    with pytest.raises(ImageError, match="at most"):
        load_image(buffer.getvalue())


def test_reading_is_silent_and_leaves_filters_alone() -> None:
    before = list(warnings.filters)
    limit = Pillow.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(record=True) as caught:
        load_image(dicom("MR_small_padded.dcm"))
    assert not caught
    assert warnings.filters == before
    assert limit == Pillow.MAX_IMAGE_PIXELS


def test_image_is_frozen(grey: np.ndarray) -> None:
    image = load_image(png(grey))
    assert isinstance(image, Image)
    with pytest.raises(dataclasses.FrozenInstanceError):
        image.modality = "ct"  # type: ignore[misc]
    with pytest.raises(ImageError, match="affine"):
        image.to_original(image.values[0])
