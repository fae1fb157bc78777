"""What the benchmark measured, in SQL: one row per method, image and metric, beside the invocations that measured them.

The tables lie in the database of :mod:`runners.store`. A row's key is everything that decides its number but the
versions of the packages, which its invocation tells; what is there is not measured again.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import FiniteFloat, StringConstraints
from sqlalchemy import JSON, Column, Engine, UniqueConstraint
from sqlalchemy.orm import registry
from sqlmodel import AutoString, Field, Session, SQLModel, col, delete, select

from runners.store import checked_row, database_errors, open_engine
from taxonomy.schema import Id

Kind = Literal["evidence", "control"]
"""Of a picture: the evidence is in it, or it was taken out (or there never was any)."""
Short = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


class Table(SQLModel, registry=registry()):
    """Base of the tables, with a registry of its own; see :class:`runners.store.Row`."""


class BenchRun(Table, table=True):
    """One invocation of ``benchmark run``."""

    __tablename__ = "bench_run"
    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")] = Field(
        default_factory=lambda: uuid.uuid4().hex[:12], primary_key=True
    )
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    benchmark: str
    level: str
    seed: int
    versions: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    by: str | None = None
    """Who ran it, if they said so."""
    machine: str | None = None
    """What kind of machine, in the words of who ran it; never a host name that was looked up."""


class BenchTask(Table, table=True):
    """A task as it was: its model, its pictures and what cannot be measured on it."""

    __tablename__ = "bench_task"
    benchmark: str = Field(primary_key=True)
    task: Id = Field(primary_key=True)
    task_sha: Short = Field(primary_key=True)
    """Hash of what decides model and pictures."""
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    facts: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """Modality, task, dims, architecture, truth, size, phantom and whether a marker decides."""
    images: int
    """Pictures that were drawn or read."""
    problems: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """Picture to the sentence why it is no ground truth."""
    unmet: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """Method to the sentence why it cannot explain the model."""
    quality: FiniteFloat | None = None
    """Accuracy of the model, or its mean Dice."""


class BenchRow(Table, table=True):
    """One metric of one method on one picture, or the sentence why there is no number."""

    __tablename__ = "bench_row"
    __table_args__ = (
        UniqueConstraint("benchmark", "task", "task_sha", "method", "metric", "image", "kind", "settings", "seed"),
    )
    id: int | None = Field(default=None, primary_key=True)
    run: str = Field(foreign_key="bench_run.id", index=True)
    benchmark: str
    task: Id = Field(index=True)
    task_sha: Short
    method: Id
    """A method, or a reference line (``reference_…``)."""
    metric: Id
    """A metric, or a number that only controls have (``control_…``)."""
    image: str
    kind: Kind = Field(sa_type=AutoString)
    holds: bool
    """The model decides by the evidence of this picture, as far as that can be checked."""
    settings: Short
    """Hash of the parameters of method and metric."""
    seed: int
    value: FiniteFloat | None = None
    error: str | None = None
    map_seconds: FiniteFloat | None = None
    seconds: FiniteFloat | None = None
    """Of the metric."""
    forward: int | None = None
    backward: int | None = None
    """Images that went through the model for the map."""
    method_parameters: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    metric_parameters: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class Key(NamedTuple):
    """What makes a row of a task unique."""

    method: str
    metric: str
    image: str
    kind: str
    settings: str
    seed: int


class Results:
    """The two tables. One process writes; use :func:`open_results` to get them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def begin(self, **fields: Any) -> str:
        """Note an invocation and return its id.

        Raises:
            AtlasError: the database cannot be written.
        """
        run = checked_row(BenchRun, fields)
        with database_errors(self._engine), Session(self._engine) as session:
            session.add(run)
            session.commit()
            return run.id

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep rows; each replaces what its key had before.

        Raises:
            AtlasError: a row is not valid, or the database cannot be written; none is kept then.
        """
        made = [checked_row(BenchRow, dict(row)) for row in rows]
        with database_errors(self._engine), Session(self._engine) as session:
            for row in made:
                names = ("benchmark", "task", "task_sha", *Key._fields)
                session.exec(delete(BenchRow).where(*(getattr(BenchRow, n) == getattr(row, n) for n in names)))
            session.add_all(made)
            session.commit()

    def note(self, **fields: Any) -> None:
        """Keep what a task is; it replaces what was known of the same model and pictures.

        Raises:
            AtlasError: a field is not valid, or the database cannot be written.
        """
        task = checked_row(BenchTask, fields)
        with database_errors(self._engine), Session(self._engine) as session:
            session.merge(task)
            session.commit()

    def tasks(self, benchmark: str) -> list[BenchTask]:
        """Return every task as it was run last."""
        query = select(BenchTask).where(BenchTask.benchmark == benchmark).order_by(col(BenchTask.created))
        with database_errors(self._engine), Session(self._engine, expire_on_commit=False) as session:
            found = {task.task: task for task in session.exec(query)}
            session.expunge_all()
        return list(found.values())

    def done(self, benchmark: str, task: str, task_sha: str, *, failures: bool = True) -> set[Key]:
        """Return what was measured of a task; without ``failures`` only what gave a number."""
        wanted = [getattr(BenchRow, name) for name in Key._fields]
        query = select(*wanted).where(
            BenchRow.benchmark == benchmark, BenchRow.task == task, BenchRow.task_sha == task_sha
        )
        if not failures:
            query = query.where(col(BenchRow.error).is_(None))
        with database_errors(self._engine), Session(self._engine) as session:
            return {Key(*row) for row in session.exec(query)}

    def rows(self, benchmark: str, shas: Mapping[str, str] | None = None) -> list[BenchRow]:
        """Return the rows of a version of the benchmark, in the order they were measured.

        Args:
            benchmark: the version.
            shas: task to its hash: only rows of these, for rows of another model or picture do not compare.
        """
        query = select(BenchRow).where(BenchRow.benchmark == benchmark).order_by(col(BenchRow.id))
        if shas is not None:
            query = query.where(col(BenchRow.task_sha).in_(list(shas.values())))
        with database_errors(self._engine), Session(self._engine, expire_on_commit=False) as session:
            found = list(session.exec(query))
            session.expunge_all()
        return [row for row in found if shas is None or shas.get(row.task) == row.task_sha]

    def runs(self, ids: Collection[str]) -> list[BenchRun]:
        """Return the invocations with these ids, oldest first."""
        query = select(BenchRun).where(col(BenchRun.id).in_(list(ids))).order_by(col(BenchRun.created))
        with database_errors(self._engine), Session(self._engine, expire_on_commit=False) as session:
            found = list(session.exec(query))
            session.expunge_all()
        return found

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()


def open_results(url: str | None = None) -> Results:
    """Open the tables, and create them when they are not there.

    Args:
        url: SQLAlchemy URL; by default as in :func:`runners.store.open_store`.

    Raises:
        AtlasError: the URL is not understood, its driver is not installed, or the database cannot be opened.
    """
    return Results(open_engine(url, Table.metadata)[0])
