"""What was run, measured and rated: three SQL tables, and beside them the arrays in files named by their content.

Nothing of a patient is kept: an image is its hash and an 8-bit preview on its grid, without tags, names or paths.
Rows are made only through ``model_validate``. A row never names a file that is not there: the file is written while the
database holds the write, and goes when the last row that names it goes.
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from pydantic import Field as Check
from pydantic import FiniteFloat, StringConstraints, ValidationError
from sqlalchemy import JSON, Column, Engine, MetaData, event, func
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import registry
from sqlalchemy.pool import StaticPool
from sqlmodel import AutoString, Field, Session, SQLModel, col, create_engine, or_, select

from runners import forms
from runners.case import Answered, Case, Measured, Result
from runners.discovery import Insight
from runners.gate import Explanation
from runners.images import Grid, Image
from taxonomy.errors import AtlasError, UnknownIdError
from taxonomy.schema import Criterion, Id

URL_VARIABLE = "XAI_ATLAS_DATABASE_URL"
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Facts = dict[str, Any]
Array = NDArray[Any]


class Row(SQLModel, registry=registry()):
    """Base of the tables, with a registry of its own: the module can be read again by Streamlit without a clash."""


def _json() -> Any:
    return Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


def _json_list() -> Any:
    return Field(default_factory=list, sa_column=Column(JSON, nullable=False))


def _now() -> datetime:
    return datetime.now(UTC)


class Run(Row, table=True):
    """One method on one image and model: its explanation, or the sentence why there is none."""

    id: int | None = Field(default=None, primary_key=True)
    created: datetime = Field(default_factory=_now, index=True)
    case: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] = Field(index=True)
    """Shared by the methods of one press of "Run"."""
    method: Id = Field(index=True)
    image_sha256: Hash = Field(index=True)
    source: str
    modality: Id | None = None
    dims: Annotated[int, Check(ge=2, le=3)]
    model: str = Field(index=True)
    model_sha256: str | None = None
    architecture: Id | None = None
    task: Id | None = None
    target: str | None = None
    target_score: FiniteFloat | None = None
    signed: bool | None = None
    seconds: FiniteFloat | None = None
    forward: int | None = None
    backward: int | None = None
    """Images that went through the model forwards and backwards."""
    seed: int | None = None
    error: str | None = None
    facts: Facts = _json()
    """Image, model and answer in full: what :class:`runners.case.Case` says beyond its arrays; and of an insight what
    its form says, under ``insight``."""
    parameters: Facts = _json()
    versions: Facts = _json()
    notes: list[str] = _json_list()
    cautions: list[str] = _json_list()
    pictures: Hash
    """File of the preview, the model's label map and the reference mask."""
    maps: Hash | None = None
    """File of the map, or of the arrays of an insight; None when the method failed."""


class Score(Row, table=True):
    """A metric measured on a run."""

    id: int | None = Field(default=None, primary_key=True)
    created: datetime = Field(default_factory=_now)
    run: int = Field(foreign_key="run.id", index=True)
    metric: Id = Field(index=True)
    value: FiniteFloat | None = None
    curve: list[float] = _json_list()
    notes: list[str] = _json_list()


class Rating(Row, table=True):
    """What a person thinks of a run. No free text: it would invite what must not be stored."""

    id: int | None = Field(default=None, primary_key=True)
    created: datetime = Field(default_factory=_now)
    run: int = Field(foreign_key="run.id", index=True)
    criterion: Criterion = Field(sa_type=AutoString)
    stars: Annotated[int, Check(ge=1, le=5)]
    audience: Id | None = None
    """Who rates: an audience id."""


@dataclass(frozen=True)
class Rated:
    """What people think of a method by one criterion.

    Attributes:
        method: method id.
        criterion: what was rated.
        images: images rated, the number that the interval rests on: stars for one image are averaged first.
        mean: stars, 1 (poor) to 5 (good).
        low: lower end of the 95 % interval of the mean, in stars.
        high: its upper end.
    """

    method: str
    criterion: str
    images: int
    mean: float
    low: float
    high: float


R = TypeVar("R", bound=SQLModel)


class Store:
    """Runs, scores and ratings in a database, arrays in a folder. Safe to share between threads.

    Use :func:`open_store` to get one.
    """

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.folder = folder
        self._engine = engine
        self._lock = threading.RLock()

    def add_run(self, case: Case, result: Result) -> Run:
        """Keep what came of one method, with its measured scores.

        Returns:
            The row, with its ``id``.

        Raises:
            AtlasError: the database or the folder cannot be written; nothing is left behind then.
        """
        found = result.found
        pictures = {"picture": _preview(case.image)}
        if case.marked is not None:
            pictures["marked"] = case.marked.numpy().astype(np.int16)
        if case.mask is not None:
            pictures["mask"] = case.mask.numpy().astype(bool)
        files = {"pictures": pictures}
        fields: Facts = {
            "case": case.key,
            "method": result.method,
            "image_sha256": case.image.sha256,
            "source": case.source,
            "modality": case.modality,
            "dims": case.image.dims,
            "model": case.model["id"],
            "model_sha256": case.model.get("sha256"),
            "architecture": case.model.get("architecture"),
            "task": case.model.get("task"),
            "facts": _facts(case),
            "error": result.error,
        }
        if isinstance(found, Explanation):
            files["maps"] = {"values": found.values[0].numpy()}
            fields |= {"target_score": float(found.target_scores[0]), "signed": found.signed}
        elif found is not None:
            facts, tensors = forms.packed(found.form)
            files["maps"] = {name: tensor.numpy() for name, tensor in tensors.items()}
            fields |= {"target_score": found.target_score}
            fields["facts"]["insight"] = {"form": forms.name_of(found.form), "facts": facts}
        if found is not None:
            fields |= {
                "target": found.target,
                "seconds": found.seconds,
                "forward": found.passes.get("forward", 0),
                "backward": found.passes.get("backward", 0),
                "seed": found.seed,
                "parameters": dict(found.parameters),
                "versions": dict(found.versions),
                "notes": list(found.notes),
                "cautions": list(found.cautions),
            }
        names = {kind: _content_name(arrays) for kind, arrays in files.items()}
        run = checked_row(Run, fields | names)
        with self._writing() as (session, written):
            session.add(run)
            session.flush()  # takes the database's write lock: nobody can delete the files now
            for kind, arrays in files.items():
                if self._write(names[kind], arrays):
                    written.append(self._path(names[kind]))
            assert run.id is not None
            for one in result.measured:
                session.add(_score(run.id, one))
        return run

    def add_score(self, run_id: int, measured: Measured) -> Score:
        """Keep a metric that was measured later.

        Raises:
            UnknownIdError: there is no such run.
        """
        return self._add_to(run_id, _score(run_id, measured))

    def add_rating(self, run_id: int, criterion: Criterion, stars: int, audience: str | None = None) -> Rating:
        """Keep a person's rating, 1 (poor) to 5 (good).

        Raises:
            UnknownIdError: there is no such run.
            AtlasError: the rating is not one of the allowed values.
        """
        fields = {"run": run_id, "criterion": criterion, "stars": stars, "audience": audience}
        return self._add_to(run_id, checked_row(Rating, fields))

    def get_run(self, run_id: int) -> Run:
        """Return one row.

        Raises:
            UnknownIdError: there is no such run.
        """
        with self._reading() as session:
            return _known(session, run_id)

    def list_runs(
        self,
        *,
        method: str | None = None,
        model: str | None = None,
        image_sha256: str | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[Run]:
        """Return rows, newest first."""
        query = select(Run).order_by(col(Run.id).desc()).limit(limit).offset(offset)
        for column, wanted in ((Run.method, method), (Run.model, model), (Run.image_sha256, image_sha256)):
            if wanted is not None:
                query = query.where(column == wanted)
        with self._reading() as session:
            return list(session.exec(query))

    def list_cases(self, limit: int = 50, offset: int = 0) -> list[list[Run]]:
        """Return the rows of each press of "Run", newest first."""
        newest = func.max(Run.id)
        keys = select(Run.case).group_by(col(Run.case)).order_by(newest.desc()).limit(limit).offset(offset)
        with self._reading() as session:
            groups: dict[str, list[Run]] = {key: [] for key in session.exec(keys)}
            for run in session.exec(select(Run).where(col(Run.case).in_(groups)).order_by(col(Run.id))):
                groups[run.case].append(run)
        return list(groups.values())

    def scores(self, run_id: int) -> list[Score]:
        """Return the scores of a run, oldest first."""
        with self._reading() as session:
            return list(session.exec(select(Score).where(Score.run == run_id).order_by(col(Score.id))))

    def ratings(self, run_id: int) -> list[Rating]:
        """Return the ratings of a run, oldest first."""
        with self._reading() as session:
            return list(session.exec(select(Rating).where(Rating.run == run_id).order_by(col(Rating.id))))

    def rated(self, *, audience: str | None = None, modality: str | None = None) -> list[Rated]:
        """Sum up all ratings, the best method first.

        A later rating of a run by the same audience replaces the earlier one. The interval is Wilson's, with the stars
        taken as a share of the way from 1 to 5: stars spread less than such a share at most can, so it is wide enough
        for few images too, where a bootstrap of three equal ratings would be certain.

        Args:
            audience: only ratings of this audience.
            modality: only images of this modality.
        """
        query = select(Rating, Run).where(Rating.run == Run.id).order_by(col(Rating.id))
        if audience is not None:
            query = query.where(Rating.audience == audience)
        if modality is not None:
            query = query.where(Run.modality == modality)
        with self._reading() as session:
            rows = [(rating, run.method, run.image_sha256) for rating, run in session.exec(query)]
        last = {(r.run, r.criterion, r.audience): (method, image, r.stars) for r, method, image in rows}
        stars: dict[tuple[str, str], dict[str, list[int]]] = {}
        for (_, criterion, _), (method, image, given) in last.items():
            stars.setdefault((method, criterion), {}).setdefault(image, []).append(given)
        found = []
        for (method, by), images in stars.items():
            mean = statistics.fmean(statistics.fmean(given) for given in images.values())
            low, high = (1 + 4 * share for share in wilson((mean - 1) / 4, len(images)))
            found.append(Rated(method, by, len(images), mean, low, high))
        return sorted(found, key=lambda one: (one.criterion, -one.mean, one.method))

    def load_maps(self, run_id: int) -> torch.Tensor:
        """Return the map of a run, float32 ``(*input spatial)``.

        Raises:
            UnknownIdError: there is no such run.
            AtlasError: there is no map: the method failed or gives none; or its file is gone or damaged.
        """
        run = self.get_run(run_id)
        if told := run.facts.get("insight"):
            raise AtlasError(f"run {run_id} has no map: {run.method} gives {told['form']}")
        if run.maps is None:
            raise AtlasError(f"run {run_id} has no map: {run.error or 'its method failed'}")
        return torch.from_numpy(self._read(run.maps)["values"])

    def load(self, key: str) -> tuple[Case, list[Result]]:
        """Return a case and its results as they were, but for the image, of which the 8-bit preview is left.

        Raises:
            UnknownIdError: there is no such case.
            AtlasError: a file is gone or damaged.
        """
        with self._reading() as session:
            runs = list(session.exec(select(Run).where(Run.case == key).order_by(col(Run.id))))
            if not runs:
                raise UnknownIdError(key, session.exec(select(Run.case).distinct()), "run")
            scores = list(session.exec(select(Score).where(col(Score.run).in_([run.id for run in runs]))))
        results = []
        for run in runs:
            measured = tuple(
                Measured(one.metric, one.value, tuple(one.curve) or None, tuple(one.notes))
                for one in scores
                if one.run == run.id
            )
            explanation, insight = None, None
            if run.maps is not None and "insight" in run.facts:
                insight = _insight(run, self._read(run.maps))
            elif run.maps is not None:
                explanation = _explanation(run, self._read(run.maps)["values"])
            results.append(Result(run.method, explanation, measured, run.error, run.id, insight))
        return _case(runs[0], self._read(runs[0].pictures)), results

    def delete_run(self, run_id: int) -> None:
        """Delete one row with its scores and ratings, and the files that no other row names.

        Raises:
            UnknownIdError: there is no such run.
        """
        with self._writing() as (session, _):
            self._delete(session, [_known(session, run_id)])

    def delete_case(self, key: str) -> None:
        """Delete every row of a case; see :meth:`delete_run`.

        Raises:
            UnknownIdError: there is no such case.
        """
        with self._writing() as (session, _):
            runs = list(session.exec(select(Run).where(Run.case == key)))
            if not runs:
                raise UnknownIdError(key, session.exec(select(Run.case).distinct()), "run")
            self._delete(session, runs)

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def _delete(self, session: Session, runs: Sequence[Run]) -> None:
        names = {name for run in runs for name in (run.pictures, run.maps) if name}
        for run in runs:
            for table in (Score, Rating):
                for row in session.exec(select(table).where(table.run == run.id)):
                    session.delete(row)
        session.flush()
        for run in runs:
            session.delete(run)
        session.flush()
        unused = [
            name
            for name in names
            if not session.exec(select(Run.id).where(or_(Run.pictures == name, Run.maps == name)).limit(1)).first()
        ]
        aside = {self._path(name): self._path(name).with_suffix(".deleted") for name in unused}
        moved = {}
        try:
            for path, other in aside.items():
                if path.exists():
                    os.replace(path, other)
                    moved[path] = other
            session.commit()
        except BaseException:
            for path, other in moved.items():
                os.replace(other, path)
            raise
        for other in moved.values():
            other.unlink(missing_ok=True)

    def _add_to(self, run_id: int, row: R) -> R:
        with self._writing() as (session, _):
            _known(session, run_id)
            session.add(row)
        return row

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        with self._errors(), Session(self._engine, expire_on_commit=False) as session:
            yield session
            session.expunge_all()

    @contextmanager
    def _writing(self) -> Iterator[tuple[Session, list[Path]]]:
        """A transaction, and a list of files to take back when it fails."""
        written: list[Path] = []
        with self._lock, self._errors(), Session(self._engine, expire_on_commit=False) as session:
            try:
                yield session, written
                session.commit()
            except BaseException:
                for path in written:  # the write lock is still held: no other row can name them
                    path.unlink(missing_ok=True)
                session.rollback()
                raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with database_errors(self._engine):
                yield
        except OSError as error:
            raise AtlasError(f"the folder {self.folder} cannot be used: {error.strerror or error}") from error

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npz"

    def _write(self, name: str, arrays: Mapping[str, Array]) -> bool:
        """Write a file unless it is there; return whether it was written."""
        target = self._path(name)
        if target.exists():
            return False
        descriptor, temporary = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".npz")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return True

    def _read(self, name: str) -> dict[str, Array]:
        try:
            with self._path(name).open("rb") as opened, np.load(opened) as file:
                arrays = {key: file[key] for key in file.files}
        except FileNotFoundError as error:
            raise AtlasError(
                f"the arrays {name[:12]}… of this run are gone from {self.folder}; delete the run"
            ) from error
        except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
            raise AtlasError(f"the arrays {name[:12]}… of this run are damaged; delete the run") from error
        if _content_name(arrays) != name:
            raise AtlasError(f"the arrays {name[:12]}… of this run were changed; delete the run")
        return arrays


def wilson(share: float, number: int, z: float = 1.959964) -> tuple[float, float]:
    """Return Wilson's score interval of a share in [0, 1] of so many, 95 % by default."""
    scale = 1 + z**2 / number
    middle = (share + z**2 / (2 * number)) / scale
    reach = z / scale * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return middle - reach, middle + reach


def open_store(url: str | None = None, folder: str | os.PathLike[str] | None = None) -> Store:
    """Open the store, and create it when it is not there.

    Args:
        url: SQLAlchemy URL, such as ``postgresql+psycopg://…``. By default the environment variable
            ``XAI_ATLAS_DATABASE_URL``, else a SQLite file in the user's data folder.
        folder: where the arrays lie; by default ``arrays`` beside the SQLite file, or in the user's data folder.

    Raises:
        AtlasError: the URL is not understood, its driver is not installed, or the database cannot be opened.
    """
    engine, beside = open_engine(url, Row.metadata)
    base = Path(folder) if folder is not None else beside / "arrays"
    try:
        base.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        engine.dispose()
        raise AtlasError(f"the folder {error.filename} cannot be used: {error.strerror}") from error
    return Store(engine, base)


def open_engine(url: str | None, tables: MetaData) -> tuple[Engine, Path]:
    """Open a database and create the tables that it lacks.

    Args:
        url: as in :func:`open_store`.
        tables: the tables that are needed.

    Returns:
        The engine, and the folder of the SQLite file, or the user's data folder for other databases.

    Raises:
        AtlasError: as in :func:`open_store`.
    """
    data = platformdirs.user_data_path("xai-atlas", appauthor=False)
    given = url or os.environ.get(URL_VARIABLE) or f"sqlite:///{data / 'atlas.sqlite'}"
    try:
        parsed = make_url(given)
        sqlite = parsed.get_backend_name() == "sqlite"
        file = Path(parsed.database) if sqlite and parsed.database not in (None, "", ":memory:") else None
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        options: Facts = {}
        if sqlite:
            options["connect_args"] = {"check_same_thread": False, "timeout": 30}
        if sqlite and file is None:
            options["poolclass"] = StaticPool  # a database in memory lives in one connection
        engine = create_engine(parsed, **options)
        if file is not None:
            event.listen(engine, "connect", _readers_do_not_wait)
        tables.create_all(engine)
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise AtlasError(
            f"the driver of the database {_shown(parsed)} is not installed: {_first_line(error)}"
        ) from error
    except ArgumentError as error:
        raise AtlasError("the database URL is not understood; one looks like sqlite:////folder/atlas.sqlite") from error
    except SQLAlchemyError as error:
        raise AtlasError(f"the database {_shown(parsed)} cannot be opened: {_first_line(error)}") from error
    except OSError as error:
        raise AtlasError(f"the folder {error.filename} cannot be used: {error.strerror}") from error
    return engine, file.parent if file else data


@contextmanager
def database_errors(engine: Engine) -> Iterator[None]:
    """Turn what the database raises into one sentence."""
    try:
        yield
    except SQLAlchemyError as error:
        raise AtlasError(f"the database {_shown(engine.url)} failed: {_first_line(error)}") from error


def _readers_do_not_wait(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")


def _shown(url: URL) -> str:
    return url.render_as_string(hide_password=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def checked_row(table: type[R], fields: Facts) -> R:
    """Make a row of a table after checking its fields.

    Raises:
        AtlasError: a field is not one of the allowed values.
    """
    try:
        return table.model_validate(fields)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise AtlasError(f"this {table.__name__.lower()} cannot be stored: {problems}") from error


def _score(run_id: int, one: Measured) -> Score:
    fields = {
        "run": run_id,
        "metric": one.metric,
        "value": one.value,
        "curve": list(one.curve or ()),
        "notes": list(one.notes),
    }
    return checked_row(Score, fields)


def _known(session: Session, run_id: int) -> Run:
    run = session.get(Run, run_id)
    if run is None:
        newest = session.exec(select(Run.id).order_by(col(Run.id).desc()).limit(12))
        raise UnknownIdError(str(run_id), [str(one) for one in newest], "run")
    return run


def _content_name(arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for key, array in sorted(arrays.items()):
        digest.update(f"{key} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _preview(image: Image) -> Array:
    """Return ``(C, *spatial)`` uint8 with one or three channels: the image as a viewer shows it."""
    values = image.values if image.channels in (1, 3) else image.values[:1]
    low, high = image.display_range
    shown = ((values - low) / ((high - low) or 1.0)).clamp(0, 1)
    return (shown * 255).round().to(torch.uint8).numpy()


def _facts(case: Case) -> Facts:
    image = case.image
    return {
        "image": {
            "format": image.format,
            "frames": image.frames,
            "modality": image.modality,
            "spacing": image.spacing,
            "affine": None if image.affine is None else image.affine.tolist(),
            "grid": None
            if image.grid is None
            else {
                "shape": image.grid.shape,
                "affine": image.grid.affine.tolist(),
                "orientation": image.grid.orientation.tolist(),
            },
            "notes": image.notes,
        },
        "model": dict(case.model),
        "answer": [vars(one) for one in case.answer],
        "fit": case.fit,
    }


def _case(run: Run, arrays: Mapping[str, Array]) -> Case:
    facts = run.facts["image"]
    grid = facts["grid"]
    image = Image(
        values=torch.from_numpy(arrays["picture"]).float(),
        display_range=(0.0, 255.0),
        full_range=(0.0, 255.0),
        sha256=run.image_sha256,
        format=facts["format"],
        spacing=facts["spacing"] and tuple(facts["spacing"]),
        affine=None if facts["affine"] is None else np.array(facts["affine"]),
        grid=grid and Grid(tuple(grid["shape"]), np.array(grid["affine"]), np.array(grid["orientation"])),
        modality=facts["modality"],
        frames=facts["frames"],
        notes=tuple(facts["notes"]),
    )
    return Case(
        image=image,
        model=run.facts["model"],
        answer=tuple(Answered(**one) for one in run.facts["answer"]),
        source=run.source,
        modality=run.modality,
        marked=torch.from_numpy(arrays["marked"]).long() if "marked" in arrays else None,
        mask=torch.from_numpy(arrays["mask"]) if "mask" in arrays else None,
        fit=run.facts["fit"],
        key=run.case,
    )


def _explanation(run: Run, values: Array) -> Explanation:
    return Explanation(
        values=torch.from_numpy(values)[None],
        method=run.method,
        target=run.target or "",
        target_scores=torch.tensor([run.target_score]),
        signed=bool(run.signed),
        notes=tuple(run.notes),
        cautions=tuple(run.cautions),
        parameters=run.parameters,
        passes={"forward": run.forward or 0, "backward": run.backward or 0},
        seconds=run.seconds or 0.0,
        seed=run.seed or 0,
        versions=run.versions,
    )


def _insight(run: Run, arrays: Mapping[str, Array]) -> Insight:
    told = run.facts["insight"]
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return Insight(
        form=forms.unpacked(told["form"], told["facts"], tensors),
        method=run.method,
        target=run.target or "",
        target_score=run.target_score or 0.0,
        notes=tuple(run.notes),
        cautions=tuple(run.cautions),
        parameters=run.parameters,
        passes={"forward": run.forward or 0, "backward": run.backward or 0},
        seconds=run.seconds or 0.0,
        seed=run.seed or 0,
        versions=run.versions,
    )
