"""The command ``xai-atlas``: ask, look things up, explain. A face: it reads arguments and prints.

``torch`` is imported only by ``explain`` and ``models``.
"""

from __future__ import annotations

import io
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast, get_args

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

import recommender
import recommender.points
from runners import computable, discoverable, executable, runnable
from taxonomy import KB, AtlasError, KBError, UnknownIdError, check, load_kb
from taxonomy.citations import cited
from taxonomy.schema import Publication
from taxonomy.trust import trust, trust_in_words, write_trust

if TYPE_CHECKING:
    from torch import Tensor

    from runners.case import Answered, Case, Result, Subject
    from runners.images import Image
    from runners.load import Model
    from runners.owned import Autoencoder, Owned, Reason
    from runners.sanity import Finding, Sanity
    from runners.targets import Target
    from trial import Attempt, Trial, Tuning

S = TypeVar("S", "Trial", "Sanity")

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Sentences(TyperGroup):
    """Commands whose errors are one sentence and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except AtlasError as error:
            err.print(f"[red]{escape(str(error))}[/red]")
            raise typer.Exit(2) from error


app = typer.Typer(
    cls=Sentences,
    help="Which explanation method for which biomedical image and model, why, and how it looks on yours.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def as_json(data: Any) -> None:
    """Print data as JSON."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))


# --- ask and look up --------------------------------------------------------------------------------------------------


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help='In plain words: "which method for ultrasound segmentation?"')],
    json_: AsJson = False,
    top: Annotated[
        int | None, typer.Option(min=1, help="How many recommendations; default 5, with --json all.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Print every reason, condition, caution and note, and code to run it.")
    ] = False,
    why_not: Annotated[
        str | None, typer.Option(metavar="METHOD", help="Tell why this method is not the first choice.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Try the methods on this model: id of a bundled one, file, folder, timm:NAME or hf:NAME."),
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="With --model: file or id of a sample image to try them on; repeatable.")
    ] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(help="Mask of the finding on the image's grid, to measure against; one for each --image."),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="With --model: a label's name or number to explain; default: the answer.")
    ] = None,
    budget: Annotated[str, typer.Option(help="With --model: time for trying, as in 60s or 5min.")] = "60s",
    tune: Annotated[bool, typer.Option("--tune", help="With --model: also try other settings of the leaders.")] = False,
    factory: Annotated[
        str | None, typer.Option(help="For weights alone: file.py:function that builds the network. It is run.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="classification, segmentation, regression or detection.")] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Image like those of the training set, or a folder of them; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same map.")] = 0,
    out_dir: Annotated[Path | None, typer.Option("--out", help="New folder for maps, pictures and report.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in --out.")] = False,
) -> None:
    """Recommend methods, with reasons and sources; with --model and --image try them there, measure and rank again."""
    kb = load_kb()
    if model is not None or image:
        if model is None or not image:
            raise AtlasError("to try methods on your case, both --model and at least one --image are needed")
        seconds, folders = _seconds(budget), _folders(out_dir, len(image), force)
        loaded, subjects = _subjects(model, image, mask or [], target, factory, _task(task))
        like = _references(reference or [], loaded, None)
        tried = _try_out(question, kb, loaded, subjects, seconds, tune, seed, like)
        _save_trial(tried, folders, out_dir, force)
        if json_:
            as_json(_cut(tried.after, top).as_json() | {"measured": tried.as_json()})
        else:
            _print_answer(_short(tried, top or 3), kb, None, full)
            _print_trial(tried, out_dir)
        if not tried.tried:
            raise typer.Exit(2)
        return
    given = {"--mask": mask, "--target": target, "--tune": tune, "--out": out_dir, "--reference": reference}
    if lonely := [name for name, value in given.items() if value]:
        raise AtlasError(f"{', '.join(lonely)}: only together with --model and --image")
    able = computable()
    query = recommender.parse(question, kb)
    if why_not is not None:
        told = recommender.why_not(kb.find_by_name(why_not, "methods"), query, kb, runnable=able)
        if json_:
            as_json({**told.as_json(), "sources": cited(told.as_json(), kb)})
        else:
            _print_why_not(told, kb)
        return
    found = recommender.answer(query, kb, runnable=able, top=top or (None if json_ else 5))
    back = recommender.clarify(query, kb, runnable=able) if full or json_ else None
    if json_:
        data = {**found.as_json(), "clarify": back.as_json() if back else None}
        as_json(
            {
                **data,
                "snippet": recommender.snippet(found, kb, runnable=able),
                "sources": cited(data, kb),
            }
        )
    else:
        _print_answer(found, kb, back, full)


@app.command()
def backtest(
    json_: AsJson = False,
    quick: Annotated[bool, typer.Option("--quick", help="Drop 150 publications for the stability, not all.")] = False,
) -> None:
    """Hide every study in turn, ask for it, and tell whether what held up in it is recommended; takes minutes."""
    from recommender.backtest import backtest as run
    from recommender.backtest import page

    found = run(load_kb(), quick=quick, progress=lambda words: err.print(f"[dim]{escape(words)}[/dim]"))
    if json_:
        as_json(found)
    else:
        typer.echo(page(found), nl=False)


def _print_answer(found: recommender.Answer, kb: KB, back: recommender.Clarification | None, full: bool) -> None:
    if found.message:
        out.print(f"[yellow]{escape(found.message)}[/yellow]")
    understood = {field: words for field, words in found.query.spans.items() if words}
    if understood:
        out.print("[dim]Understood: " + escape("; ".join(f"{k} from “{v}”" for k, v in understood.items())) + "[/dim]")
    if found.query.unmatched:
        out.print(f"[dim]Not understood: {escape(', '.join(found.query.unmatched))}[/dim]")
    sources: dict[str, int] = {}
    if back:
        answers = " · ".join(choice.label for choice in back.choices)
        out.print(f"[cyan]One answer would change most of this: {escape(back.text)}[/cyan] {escape(answers)}")
    if found.comparison:
        _print_comparison(found.comparison, kb, sources, full)
    for number, one in enumerate(found.recommendations, 1):
        _print_recommendation(number, one, kb, sources, full)
    if found.roles:
        out.print(f"\n[bold]Run together{'' if found.panel else ', with other tools'}:[/bold]")
    for role in found.roles:
        out.print(f"  • {escape(kb.methods[role.method].name)}: {escape(role.text)}{_cites(role.cites, sources)}")
    if found.protocol:
        out.print("\n[bold]Check them[/bold]")
    for number, step in enumerate(found.protocol, 1):
        out.print(f"  {number}. {escape(step.text)}{_cites(step.cites, sources)}")
        if step.accept:
            out.print(f"     [green]{escape(step.accept)}[/green]")
        if trusted := trust_in_words(kb, step.metrics):
            out.print(f"     [dim]{escape(trusted)}[/dim]")
        _print_sentences(step.notes if full else (), sources, indent=5)
    if found.cautions:
        out.print("\n[bold]Mind[/bold]")
        cautions = [recommender.Sentence(one.text, tuple(one.sources)) for one in found.cautions]
        _print_sentences(cautions if full else cautions[:5], sources)
    if found.unstudied:
        out.print("\n[bold]What nobody has studied[/bold]")
        _print_sentences(found.unstudied, sources)
    if found.ruled_out:
        out.print(f"\n[bold]Ruled out[/bold] ({len(found.ruled_out)} methods{'' if full else '; the most promising'})")
        for ruled in found.ruled_out if full else found.ruled_out[:3]:
            out.print(f"  • {escape(ruled.gap)}")
    if full and found.roles:
        code = recommender.snippet(found, kb, runnable=computable())
        out.print("\n[bold]To copy and run[/bold]\n")
        out.print(code, markup=False)
    _print_sources(sources, kb)
    if not full and found.recommendations:
        out.print("\n[dim]--full shows every reason and code to run; --why-not METHOD tells why not another.[/dim]")


def _print_recommendation(
    number: int, one: recommender.Recommendation, kb: KB, sources: dict[str, int], full: bool
) -> None:
    here = " [green]runs here[/green]" if one.runnable else ""
    out.print(f"\n[bold]{number}. {escape(one.name)}[/bold] ({one.method}), {one.score:.1f} points{here}")
    reasons = [r for r in one.reasons if full or abs(r.points) >= 0.05]
    for reason in reasons if full else reasons[:4]:
        out.print(f"   {reason.points:+.1f}  {escape(reason.text)}{_cites(reason.cites, sources)}")
    for condition in one.conditions:
        out.print(f"   only  {escape(condition)}")
    for caution in one.cautions if full else one.cautions[:1]:
        out.print(f"   [yellow]mind[/yellow]  {escape(caution.text)}{_cites(caution.sources, sources)}")
    if full and one.metrics:
        out.print(f"   [dim]check it with {escape(', '.join(kb.metrics[m].name for m in one.metrics[:4]))}[/dim]")


def _print_comparison(found: recommender.Comparison, kb: KB, sources: dict[str, int], full: bool) -> None:
    out.print("\n[bold]What was found[/bold]")
    _print_sentences(found.verdict, sources)
    most = None if full else 3
    if found.head_to_head:
        out.print("  [bold]Head to head[/bold]")
    for told in found.head_to_head[:most]:
        best = ", ".join(kb.methods[m].name for m in told.favours) or "neither"
        out.print(f"    {escape(best)}: {escape(told.text)}{_cites([told.publication], sources)}")
    for method, findings in found.findings.items():
        nearest = sorted(findings, key=lambda t: ("same", "near", "far").index(t.near))
        if findings:
            out.print(f"  [bold]{escape(kb.methods[method].name)}[/bold]")
        for told in nearest[:most]:
            out.print(f"    {'=+-'[told.side]} {escape(told.text)}{_cites([told.publication], sources)}")
        if most and len(findings) > most:
            out.print(f"    [dim]{len(findings) - most} more with --full[/dim]")


def _print_sentences(sentences: Sequence[recommender.Sentence], sources: dict[str, int], indent: int = 2) -> None:
    for one in sentences:
        out.print(f"{' ' * indent}• {escape(one.text)}{_cites(one.cites, sources)}")


def _print_why_not(told: recommender.WhyNot, kb: KB) -> None:
    sources: dict[str, int] = {}
    out.print(escape(told.text))
    for setback in told.setbacks:
        out.print(f"\n[bold]{escape(setback.criterion)}[/bold] {setback.points:+.1f}")
        for whose, reasons in (("it", setback.own), ("the first", setback.first)):
            for reason in reasons:
                out.print(f"   {whose}: {reason.points:+.1f}  {escape(reason.text)}{_cites(reason.cites, sources)}")
    if told.reasons:
        out.print("\n[bold]What speaks for it[/bold]")
    for reason in told.reasons:
        out.print(f"   {reason.points:+.1f}  {escape(reason.text)}{_cites(reason.cites, sources)}")
    _print_sources(sources, kb)


def _cites(ids: Sequence[str], sources: dict[str, int], limit: int = 4) -> str:
    """Return the numbers of sources, and give new ones a number."""
    numbers = [sources.setdefault(one, len(sources) + 1) for one in ids[:limit]]
    more = f" +{len(ids) - limit}" if len(ids) > limit else ""
    return escape(f" [{', '.join(map(str, numbers))}{more}]") if numbers else ""


def _print_sources(sources: dict[str, int], kb: KB) -> None:
    if sources:
        out.print("\n[bold]Sources[/bold]")
    for one, number in sources.items():
        paper = kb.publications[one]
        out.print(f"  {number}. {escape(paper.title)} ({paper.year or 'n.d.'}) {paper.link}")


def _seconds(text: str) -> float:
    from recommender.words import seconds

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?)?", text.strip().lower())
    if not found or float(found[1]) == 0:
        raise AtlasError(f"--budget {text}: a time such as 60s, 90 or 5min is needed")
    unit = found[2] or "s"
    return seconds(found[1], "min" if unit == "m" else unit)


def _subjects(
    name: str, images: Sequence[str], masks: Sequence[Path], target: str | None, factory: str | None, task: Any
) -> tuple[Model, list[Subject]]:
    """Load the model and bring it together with every image."""
    import runners
    from runners.case import subject

    if masks and len(masks) != len(images):
        raise AtlasError(f"{len(masks)} masks and {len(images)} images were given; give one --mask for each --image")
    loaded = runners.load_model(name, factory=factory, task=task)
    subjects = []
    for number, one in enumerate(images):
        shown, marked = _read(one, masks[number] if masks else None, None, None)
        if shown.dims == 3 and loaded.card.dims == 2:
            raise AtlasError(
                f"{one} is a volume and the model reads pictures; use `explain --slice N`, or give a slice"
            )
        source = one if _sample(one) else "upload"
        subjects.append(subject(shown, loaded, source=source, mask=marked, target=target))
    return loaded, subjects


def _folders(out_dir: Path | None, images: int, force: bool) -> list[Path]:
    """Return the folder of each image's export, one level down when there are several."""
    from runners import export as exports

    if out_dir is None:
        return []
    folders = [out_dir] if images == 1 else [out_dir / f"image_{number}" for number in range(1, images + 1)]
    for folder in folders:
        exports.check_target(folder.absolute(), force)
    return folders


def _short(tried: Trial, top: int) -> recommender.Answer:
    """The best of the tried methods with their strongest reasons; the rest stands in the answer without a model."""
    best = [one for one in tried.after.recommendations if one.method in tried.tried][:top]
    shown = []
    for one in best:
        here = [reason for reason in one.reasons if reason.criterion == "measured"]
        read = [reason for reason in one.reasons if reason.criterion != "measured"]
        shown.append(replace(one, found=(*here[:3], *read[:3])))
    return replace(tried.after, recommendations=tuple(shown), panel=(), protocol=(), cautions=(), ruled_out=())


def _cut(found: recommender.Answer, top: int | None) -> recommender.Answer:
    return replace(found, recommendations=found.recommendations[:top])


def _try_out(
    question: str, kb: KB, model: Model, subjects: Sequence[Subject], budget: float, tune: bool, seed: int, like: Any
) -> Trial:
    """Run the trial under a bar that fills with the budget; Ctrl-C keeps what is done."""
    import trial

    def start(report: Callable[[str, int, int], None]) -> Iterator[Trial]:
        given = {} if like is None else {"reference": like}
        return trial.trial(
            question, kb, model, subjects, budget=budget, tune=tune, seed=seed, given=given, progress=report
        )

    return _within(budget, start)


def _within(budget: float, start: Callable[[Callable[[str, int, int], None]], Iterator[S]]) -> S:
    """Return the last of ever fuller states, under a bar that fills with the budget; Ctrl-C keeps what is done."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    began, state = time.monotonic(), None
    with Progress(BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), console=err) as shown:
        bar = shown.add_task("", total=budget)

        def report(words: str, done: int, total: int) -> None:
            share = f" {done / total:.0%}" if total > 1 else ""
            shown.update(bar, completed=time.monotonic() - began, description=escape(words + share))

        try:
            for state in start(report):  # noqa: B007 (the last one counts)
                shown.update(bar, completed=time.monotonic() - began)
        except KeyboardInterrupt:  # between two pieces of work
            if state is None:
                raise
            state = replace(state, ended="you stopped it")
        shown.update(bar, completed=budget, description="done")
    assert state is not None
    return state


def _save_trial(tried: Trial, folders: Sequence[Path], out_dir: Path | None, force: bool) -> None:
    from runners import export as exports

    found = tried.after.as_json()
    for number, folder in enumerate(folders):
        exports.save(folder, tried.subjects[number].case, tried.kept(number), tried.kb, answer=found, force=force)
    if out_dir is not None:
        text = json.dumps(tried.as_json(), indent=2, ensure_ascii=False)
        (out_dir / "trial.json").write_text(text + "\n", encoding="utf-8")


def _print_trial(tried: Trial, folder: Path | None) -> None:
    kb, images = tried.kb, len(tried.subjects)
    on = "your image" if images == 1 else f"your {images} images"
    name = escape(str(tried.subjects[0].case.model["name"]))
    ended = f" [yellow]({escape(tried.ended)})[/yellow]" if tried.ended else ""
    out.print(f"\n[bold]Measured on your case[/bold]: {name}, {on}, {tried.seconds:.1f} s{ended}")
    for one in tried.subjects:
        lines = [_said(line) for line in one.case.answer[:4]]
        out.print(f"   [dim]it says {escape(', '.join(lines))}[/dim]")
    if tried.tried:
        heads = tried.heads.values()
        table = Table("here", "papers", "method", *heads, "s", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for line in tried.table:
            cells = [
                f"[bold red]{cell.text} fails[/bold red]"
                if cell.fails
                else f"[bold green]{cell.text}[/bold green]"
                if cell.best
                else cell.text
                for cell in line.cells
            ]
            name = escape(kb.methods[line.method].name)
            table.add_row(str(line.here), str(line.papers), name, *cells, f"{line.seconds:.1f}")
        out.print(table)
        out.print("[dim]↑ higher is better, ↓ lower is better; papers: place among these by the literature alone[/dim]")
        out.print(f"[dim]{escape(trust_in_words(kb, tried.heads))}[/dim]")
    curved = [
        s for rs in tried.results for r in rs for s in r.measured if s.curve and kb.metrics[s.metric].range == "[0, 1]"
    ]
    if any(score.value is not None and not 0 <= score.value <= 1 for score in curved):
        out.print(
            "[dim]An area outside 0 to 1: on the way the score went beyond that of the image or of the blank one, or "
            "the blank one scores higher. Read the order of such numbers, not their size.[/dim]"
        )
    for change in tried.changes:
        out.print(f"  • {escape(change.text)}")
    if tried.tried and not tried.changes:
        out.print("  • The order stays as the literature has it.")
    for name, caution in tried.warnings:
        out.print(f"  [yellow]mind[/yellow] {escape(name)}: {escape(caution.text)}")
    for tuning in tried.tuned:
        _print_tuning(tuning, kb)
    if tried.tuned:
        from trial import FLATTERS

        out.print(f"  [dim]{FLATTERS}[/dim]")
    failed = {r.method: r.error for rs in tried.results for r in rs if r.error}
    for method, error in failed.items():
        out.print(f"  [red]{escape(kb.methods[method].name)}: {escape(str(error))}[/red]")
    gone: dict[tuple[str, str], dict[str, float]] = {}
    for skip in tried.skipped:
        what = kb.metrics[skip.metric].name if skip.metric else "other settings" if skip.setting else "the map"
        took = gone.setdefault((what, skip.why), {})
        took[skip.method] = took.get(skip.method, 0.0) + (skip.seconds or 0.0)
    if gone:
        out.print("[dim]Not done[/dim]")
    for (what, reason), took in gone.items():
        told = (kb.methods[m].name + (f" (about {s:.0f} s)" if s >= 0.5 else "") for m, s in took.items())
        out.print(f"  [dim]{escape(what)} of {escape(', '.join(told))}: {escape(reason)}[/dim]")
    above = itertools.takewhile(lambda one: one.method not in tried.tried, tried.after.recommendations)
    if names := [one.name for one in above]:
        out.print(f"[dim]Ranked higher, but not tried: {escape(', '.join(names[:5]))}[/dim]")
    if images == 1 and tried.tried:
        out.print("[dim]One image says how these methods do on it, not in general: give --image several times.[/dim]")
    if folder is not None:
        out.print(f"\nWritten to {escape(str(folder))}")
    else:
        out.print("[dim]Pictures, maps and a report: add --out FOLDER.[/dim]")


def _print_tuning(one: Tuning, kb: KB) -> None:
    def told(attempt: Attempt) -> str:
        given = ", ".join(f"{name}={value}" for name, value in attempt.parameters.items()) or "default"
        return given + " (" + ", ".join(f"{kb.metrics[m].name} {v:.2f}" for m, v in attempt.scores.items()) + ")"

    name = escape(kb.methods[one.method].name)
    if one.best.parameters:
        flags = " ".join(f"--set {key}={value}" for key, value in one.best.parameters.items())
        out.print(f"  • {name} tuned: {escape(told(one.best))} beats {escape(told(one.tried[0]))}; use {escape(flags)}")
    else:
        out.print(f"  • {name} tuned: the default stays the best of {len(one.tried)} settings")
    others = [told(attempt) for attempt in one.tried if attempt is not one.best and attempt.parameters]
    if others:
        out.print(f"      [dim]also tried {escape('; '.join(others))}[/dim]")


def _said(line: Answered) -> str:
    """One line of a model's answer."""
    percent = line.unit == "probability"
    value = f"{line.value:.1%}" if percent else f"{line.value:,.4g} {'' if line.unit == 'value' else line.unit}"
    return f"{line.label} {value}".strip()


@app.command()
def show(
    entity: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Id, name or alias of anything in the knowledge base.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="For a modality: what explains it for this task.")] = None,
    modality: Annotated[
        str | None, typer.Option("--in", help="For a method: what is known of it in this modality, and why.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="The ways through the graph to this entity.")] = None,
    disagreements: Annotated[
        bool, typer.Option("--disagreements", help="Where publications disagree (about a method, in a modality).")
    ] = False,
    blanks: Annotated[
        bool, typer.Option("--blanks", help="What nobody has tried (of a method, in a modality), the best first.")
    ] = False,
    search: Annotated[str | None, typer.Option(help="Find everything with these words.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many rows of a list.")] = 15,
    json_: AsJson = False,
) -> None:
    """Show an entity, or answer a question about it from the graph."""
    kb = load_kb()
    if search is not None:
        _show_found(kb, search, top, json_)
        return
    entity_id = None if entity is None else kb.find_by_name(entity)
    kind = None if entity_id is None else kb.kind(entity_id)
    where = entity_id if kind == "modalities" else modality and kb.find_by_name(modality, "modalities")
    method = entity_id if kind == "methods" else None
    if kind not in (None, "methods", "modalities") and (disagreements or blanks or modality):
        raise AtlasError(f"{entity} is one of the {kind}; this question can be asked of a method or a modality")
    if disagreements:
        _show_disagreements(kb, method, where, top, json_)
    elif blanks:
        _show_blanks(kb, method, where, top, json_)
    elif entity_id is None:
        raise AtlasError("nothing to show: give an id or a name, or --search WORDS, --disagreements or --blanks")
    elif to is not None:
        _show_ways(kb, entity_id, kb.find_by_name(to), json_)
    elif method and where:
        _show_method_in(kb, method, where, json_)
    elif modality is not None:
        raise AtlasError(f"--in asks about a method in a modality, and {entity} is no method")
    elif task is not None:
        if kind != "modalities":
            raise AtlasError(f"--task asks what explains a modality, and {entity} is one of the {kind}")
        _show_tried(kb, entity_id, task, top, json_)
    else:
        _show_entity(kb, entity_id, json_)


def _show_entity(kb: KB, entity_id: str, json_: bool) -> None:
    from taxonomy.questions import about

    found, fields = kb.get(entity_id), about(kb, entity_id)
    if entity_id in kb.methods:
        fields["runnable"] = entity_id in executable()
    if json_:
        as_json(fields)
        return
    out.print(f"[bold]{escape(found.name)}[/bold]")
    known = {key: value for key, value in fields.items() if value not in (None, [], {}, "")}
    publications = known.pop("publications", [])
    out.print(yaml.safe_dump(known, allow_unicode=True, sort_keys=False, width=110), markup=False)
    if publications:
        out.print(f"used in {len(publications)} publications; with --in MODALITY: what they found there")
    if isinstance(found, Publication):
        out.print(found.link)
    else:
        _print_sources({one: n for n, one in enumerate(cited(found.model_dump(), kb), 1)}, kb)


def _show_tried(kb: KB, modality: str, task: str, top: int, json_: bool) -> None:
    from taxonomy.questions import explains

    words = {name.casefold(): one for one, word in kb.vocabulary.tasks.items() for name in (one, word.name)}
    if task.casefold() not in words:
        raise UnknownIdError(task, kb.vocabulary.tasks, "task")
    found = explains(kb, modality, words[task.casefold()])
    rows = [
        {
            "method": one.method,
            "publications": len(one.publications),
            "for": len(one.for_),
            "against": len(one.against),
            "equal or mixed": len(one.open),
            "with clinicians": one.clinicians,
        }
        for one in found
    ]
    if json_:
        as_json([{**row, "publications": list(one.publications)} for row, one in zip(rows, found, strict=True)])
    elif rows:
        _print_rows(rows[:top])
        _print_more(len(rows), top)
    else:
        out.print(f"No study of {kb.modalities[modality].name} for {task} is in the knowledge base: a gap.")


def _show_method_in(kb: KB, method: str, modality: str, json_: bool) -> None:
    from taxonomy.graph import evidence
    from taxonomy.questions import bearings, why

    found = evidence(kb, method, modality)
    effects = bearings(kb, method, modality)
    ways = why(kb, method, modality)
    if json_:
        as_json(
            {
                "method": method,
                "modality": modality,
                "evidence": [
                    {"publication": one.publication.id, "claims": [c.model_dump(mode="json") for c in one.claims]}
                    for one in found
                ],
                "challenges": [
                    {"challenge": b.challenge, "eases": b.eases, "text": b.effect.text, "sources": b.effect.sources}
                    for b in effects
                ],
                "ways": [[step.text for step in steps] for steps in ways],
            }
        )
        return
    sources: dict[str, int] = {}
    out.print(f"[bold]{escape(kb.methods[method].name)} in {escape(kb.modalities[modality].name)}[/bold]")
    if not found:
        out.print("No publication tried it there: a gap.")
    for one in found:
        claims = one.claims or ("it was used; nothing was found about it",)
        for claim in claims:
            text = claim if isinstance(claim, str) else f"{claim.criterion}, {claim.outcome}: {claim.text}"
            out.print(f"  • {escape(text)}{_cites([one.publication.id], sources)}")
    for effect in effects:
        verb = "eases" if effect.eases else "suffers from"
        text = f"{verb} “{kb.challenges[effect.challenge].name}”: {effect.effect.text}"
        out.print(f"  • {escape(text)}{_cites(effect.effect.sources, sources)}")
    _print_ways(ways)
    _print_sources(sources, kb)


def _show_disagreements(kb: KB, method: str | None, modality: str | None, top: int, json_: bool) -> None:
    from taxonomy.questions import disagreements

    found = disagreements(kb, method, modality)
    if json_:
        from taxonomy.report import contradiction

        as_json([contradiction(one) for one in found])
        return
    if not found:
        out.print("No publications in the knowledge base disagree here.")
    sources: dict[str, int] = {}
    for one in found[:top]:
        direct = " [yellow](opposite order)[/yellow]" if one.opposed else ""
        title = f"{kb.methods[one.method].name}, {one.criterion.replace('_', ' ')}, {kb.modalities[one.modality].name}"
        out.print(f"\n[bold]{escape(title)}[/bold]{direct}")
        for mark, findings in (("+", one.for_), ("-", one.against)):
            for finding in findings:
                out.print(f"  {mark} {escape(finding.claim.text)}{_cites([finding.publication], sources)}")
    _print_more(len(found), top)
    _print_sources(sources, kb)


def _show_blanks(kb: KB, method: str | None, modality: str | None, top: int, json_: bool) -> None:
    from dataclasses import asdict

    from taxonomy.questions import blanks

    found = blanks(kb, modality, None if method is None else [method])
    if json_:
        as_json([asdict(one) for one in found])
        return
    rows = []
    for one in found[:top]:
        near = ", ".join(f"{kb.modalities[m].name} ({n})" for m, _, n in one.elsewhere[:3])
        easing = ", ".join(kb.challenges[c].name for c in one.eases)
        rows.append(
            {
                "method": one.method,
                "never on": one.modality,
                "promise": f"{one.promise:.1f}",
                "tried on (publications)": near,
                "would ease": easing,
            }
        )
    if rows:
        _print_rows(rows)
        _print_more(len(found), top)
    else:
        out.print("Nothing here is untried.")


def _show_ways(kb: KB, start: str, end: str, json_: bool) -> None:
    from taxonomy.questions import why

    ways = why(kb, start, end)
    if json_:
        as_json([[step.text for step in steps] for steps in ways])
    elif ways:
        _print_ways(ways)
    else:
        out.print(f"Nothing leads from {start} to {end}.")


def _print_ways(ways: Sequence[Sequence[Any]]) -> None:
    for number, steps in enumerate(ways, 1):
        out.print(f"\n[bold]Way {number}[/bold]")
        for step in steps:
            out.print(f"  → {escape(step.text)}")


def _show_found(kb: KB, text: str, top: int, json_: bool) -> None:
    from taxonomy.search import search

    found = search(kb, text, limit=top)
    if json_:
        as_json({"total": found.total, "loose": found.loose, "hits": [hit._asdict() for hit in found.hits]})
    elif found.hits:
        if found.loose:
            err.print(f"Nothing has all of the words {text!r}; these have some of them.", markup=False)
        _print_rows([{"id": hit.id, "kind": hit.kind, "name": hit.name} for hit in found.hits])
        _print_more(found.total, top)
    else:
        out.print(f"Nothing has a word of {text!r}; try others, or their beginnings.", markup=False)


def _print_more(total: int, shown: int) -> None:
    if total > shown:
        out.print(f"[dim]{total - shown} more; --top {total} shows all[/dim]")


@app.command("list")
def list_(
    kind: Annotated[str, typer.Argument(help="methods, modalities, challenges, metrics, tools or publications.")],
    json_: AsJson = False,
) -> None:
    """List everything of one kind."""
    kb = load_kb()
    if kind not in kb.kinds():
        raise UnknownIdError(kind, kb.kinds(), "kind")
    rows = []
    for entity_id, entity in sorted(kb.kinds()[kind].items()):
        row: dict[str, Any] = {"id": entity_id, "name": entity.name}
        if kind == "methods":
            family = kb.methods[entity_id].family
            row |= {
                "branch": kb.branch(entity_id),
                "family": family,
                "runnable": entity_id in executable(),
            }
        rows.append(row)
    if json_:
        as_json(rows)
    else:
        _print_rows(rows)


def _print_rows(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(*rows[0], box=None, pad_edge=False)
    for row in rows:
        shown = ("yes" if value is True else "" if value is False else str(value) for value in row.values())
        table.add_row(*map(escape, shown))
    out.print(table)


@app.command("check")
def check_(
    report: Annotated[bool, typer.Option("--report", help="Also tell how well the literature is covered.")] = False,
    json_: AsJson = False,
) -> None:
    """Check the knowledge base; every broken rule is one line."""
    kb = load_kb()
    problems = check(kb)
    if json_:
        from taxonomy.report import coverage_report

        as_json({"problems": problems} | ({"report": coverage_report(kb).as_json()} if report else {}))
    else:
        for problem in problems:
            out.print(problem, markup=False)
        counts = ", ".join(f"{len(entities)} {kind}" for kind, entities in kb.kinds().items())
        out.print(f"{counts}: {f'{len(problems)} problems' if problems else 'no problems'}")
        out.print(f"[dim]version {kb.about.version}, sha256:{kb.digest[:12]}[/dim]")
        if report:
            _print_report(kb)
    if problems:
        raise typer.Exit(1)


def _print_report(kb: KB) -> None:
    from taxonomy.report import coverage_report

    found = coverage_report(kb)
    read = ", ".join(f"{number} {what}" for what, number in found.read.items())
    out.print(
        f"\n{found.studies} publications studied a modality: {found.verified:.0%} verified beyond the title, "
        f"{found.with_clinicians:.0%} with clinicians, {found.comparative:.0%} comparative, "
        f"{found.multimodal} multimodal. Read of all: {read}."
    )
    tasks = [one for one in [*kb.vocabulary.tasks, ""] if any(task == one for _, task in found.by_task)]
    rows: list[dict[str, Any]] = []
    for modality, shares in found.by_modality.items():
        row = {"modality": modality, "studies": int(shares["studies"])}
        row |= {"verified": f"{shares['verified']:.0%}", "clinicians": f"{shares['with_clinicians']:.0%}"}
        rows.append(row | {task or "not said": found.by_task.get((modality, task)) or "·" for task in tasks})
    out.print("\n[bold]Publications by modality and task[/bold]")
    _print_rows(rows)
    out.print("\n[bold]Publications by family and modality[/bold]")
    families = [one for one in kb.vocabulary.families if any(family == one for _, family in found.by_family)]
    columns = [one for one, shares in found.by_modality.items() if shares["studies"]]
    _print_rows([{"family": f, **{m[:9]: found.by_family.get((m, f)) or "·" for m in columns}} for f in families])
    out.print(f"\n[bold]{len(found.contradictions)} disagreements[/bold], the most argued (show --disagreements)")
    for one in found.contradictions[:8]:
        out.print(f"  {one.method}, {one.criterion}, {one.modality}: {len(one.for_)} for, {len(one.against)} against")
    out.print("\n[bold]Blank cells that neighbours suggest most[/bold] (show --blanks)")
    for blank in found.blanks[:8]:
        out.print(f"  {blank.method} on {blank.modality}: {blank.promise:.1f}")


@app.command()
def export(
    file: Annotated[
        Path, typer.Argument(help="What to write: .json, .jsonld, .graphml, .csv, .sqlite, .bib, .ris or .zip.")
    ],
) -> None:
    """Write the knowledge base into one file; its ending says how."""
    from taxonomy.export import export as write

    write(load_kb(), file)
    err.print(f"{escape(str(file))} written.")


@app.command()
def schema(folder: Annotated[Path, typer.Argument(help="Folder for the files.")]) -> None:
    """Write the JSON Schema of each kind, so that an editor completes and checks the YAML files."""
    from taxonomy.export import json_schema

    for path in json_schema(folder):
        out.print(str(path), markup=False)


# --- keep the knowledge base alive -----------------------------------------------------------------------------------

kb_app = typer.Typer(cls=Sentences, no_args_is_help=True, help="Add to the knowledge base, compare versions, cite.")
app.add_typer(kb_app, name="kb")


@kb_app.command("add")
def kb_add(
    reference: Annotated[
        str,
        typer.Argument(help="File of BibTeX, RIS or CSL-JSON, a completed YAML proposal, or the reference itself."),
    ],
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Folder for the proposals; default: print them.")
    ] = None,
    folder: Annotated[Path | None, typer.Option("--kb", help="Folder of the knowledge base to add to.")] = None,
    json_: AsJson = False,
) -> None:
    """Propose the file of a publication, or check a completed one and write it.

    A reference gives a proposal: doubles are told, methods and modalities that its title and abstract name are filled
    in, and TODO stands where you must write. Complete it, then give the YAML file to this command again.
    """
    from recommender.intake import understand
    from taxonomy.intake import propose, read_references, write

    kb = load_kb(folder)
    path = Path(reference) if len(reference) < 1000 else None  # noqa: PLR2004 - longer is text, not a path
    is_file = path is not None and path.is_file()
    if path is not None and is_file and path.suffix in (".yaml", ".yml"):
        target = write(path.stem, _text(path), kb)
        out.print(f"{target} written; it passes every rule.", markup=False)
        return
    proposals = [
        propose(one, kb, understand(one, kb)) for one in read_references(_text(path) if is_file and path else reference)
    ]
    if json_:
        as_json([{**p.__dict__, "doubles": [d._asdict() for d in p.doubles]} for p in proposals])
        return
    for proposal in proposals:
        for double in proposal.doubles:
            err.print(f"[yellow]{escape(double.publication)} has {escape(double.why)}[/yellow]")
        if any(double.certain for double in proposal.doubles):
            err.print("It is in the knowledge base already; nothing is proposed.")
            continue
        for sentence in proposal.open:
            err.print(f"  • {escape(sentence)}")
        if out_dir is None:
            out.print(f"# {proposal.id}.yaml\n{proposal.yaml}", markup=False)
        else:
            target = out_dir / f"{proposal.id}.yaml"
            if target.exists():
                raise AtlasError(f"{target} exists: move it away or give another --out")
            try:
                out_dir.mkdir(parents=True, exist_ok=True)
                target.write_text(proposal.yaml, encoding="utf-8")
            except OSError as error:
                raise AtlasError(f"cannot write {target}: {error.strerror}; give a folder you may write to") from error
            err.print(f"{escape(str(target))}: complete it, then: xai-atlas kb add {escape(str(target))}")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AtlasError(f"cannot read {path}: {error}; give a text file in UTF-8") from error


@kb_app.command("diff")
def kb_diff(
    old: Annotated[
        str, typer.Argument(help="Folder of a knowledge base, its .json or .zip export, or a git revision as HEAD~5.")
    ],
    new: Annotated[str | None, typer.Argument(help="The same; default: the knowledge base as it is now.")] = None,
    recommendations: Annotated[bool, typer.Option(help="Also tell which recommendations change.")] = True,
    json_: AsJson = False,
) -> None:
    """Tell what was added, changed and retracted, and which recommendations change by it."""
    from recommender.changes import changed_recommendations
    from taxonomy.changes import diff

    with _revision(old) as before, _revision(new) as after:
        found = diff(before, after)
        moved = changed_recommendations(before, after, runnable=executable()) if recommendations and found else []
    if json_:
        as_json({**found.as_json(), "recommendations": [one.as_json() for one in moved]})
        return
    out.print(f"{found.old} → {found.new}", markup=False)
    if not found:
        out.print("Nothing changed.")
    for verb, kinds in (("added", found.added), ("removed", found.removed)):
        for kind, ids in kinds.items():
            out.print(f"\n[bold]{len(ids)} {kind} {verb}[/bold]")
            out.print(f"  {escape(', '.join(ids))}")
    for kind, entities in found.changed.items():
        out.print(f"\n[bold]{len(entities)} {kind} changed[/bold]")
        for entity_id, changes in entities.items():
            out.print(f"  {entity_id}: {', '.join(change.field for change in changes)}", markup=False)
    if found.retracted:
        out.print(f"\n[red]Retracted: {escape(', '.join(found.retracted))}[/red]")
    if moved:
        out.print(f"\n[bold]{len(moved)} answers change[/bold] (first five of each modality and task)")
    for answer in moved:
        out.print(f"\n  {answer.modality}, {answer.task}: {', '.join(answer.new) or 'nothing'}", markup=False)
        out.print(f"    [dim]before: {escape(', '.join(answer.old)) or 'nothing'}[/dim]")
        for move in answer.moved:
            ranks = " → ".join(str(rank or "-") for rank in (move.old_rank, move.new_rank))
            why = "; ".join(move.why[:2]) or "what others gained or lost"
            out.print(f"    {move.method} {ranks}: {why}", markup=False)


@contextmanager
def _revision(given: str | None) -> Iterator[KB]:
    """Give the knowledge base of a folder, an export or a git revision, or the one as it is now."""
    import subprocess
    import tarfile
    import tempfile

    if given is None or Path(given).is_dir():
        yield load_kb(given)
        return
    if Path(given).suffix.lower() in (".json", ".zip"):
        from taxonomy.export import read_export

        yield read_export(given)
        return
    if given.startswith("-"):  # git would take it for an option
        raise AtlasError(f"{given} is neither a folder nor a git revision: a revision does not begin with a hyphen")
    root = load_kb().root
    command = ["git", "-C", str(root), "archive", "--format=tar", given, "."]
    try:
        done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - a revision is one argument
    except OSError as error:
        raise AtlasError(f"{given} is no folder, and git cannot be run: {error.strerror}") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise AtlasError(f"{given} is neither a folder nor a git revision here: {' '.join(reason[-1:])}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        try:
            kb = load_kb(folder)
        except KBError as error:
            first = error.problems[0]
            raise AtlasError(
                f"{given} was written for another schema: {len(error.problems)} problems, the first {first}; "
                "compare revisions since the schema last changed"
            ) from error
        yield kb


@kb_app.command("cite")
def kb_cite(
    publications: Annotated[
        list[str] | None, typer.Argument(help="Ids of publications; default: all that fit.")
    ] = None,
    style: Annotated[str, typer.Option(help="bibtex, ris or csl.")] = "bibtex",
    method: Annotated[str | None, typer.Option(help="Only publications that used this method.")] = None,
    modality: Annotated[str | None, typer.Option(help="Only publications that studied this modality.")] = None,
    search: Annotated[str | None, typer.Option(help="Only publications with these words.")] = None,
) -> None:
    """Print references as BibTeX, RIS or CSL-JSON."""
    from taxonomy.citations import cite
    from taxonomy.search import search as find

    kb = load_kb()
    ids = list(publications or kb.publications)
    if method is not None:
        used = kb.index.by_method.get(kb.find_by_name(method, "methods"), ())
        ids = [one for one in ids if one in used]
    if modality is not None:
        studied = kb.index.by_modality.get(kb.find_by_name(modality, "modalities"), ())
        ids = [one for one in ids if one in studied]
    if search is not None:
        found = find(kb, search, {"kind": ["publications"]}, limit=len(kb.publications))
        hits = set() if found.loose else {hit.id for hit in found.hits}
        ids = [one for one in ids if one in hits]
    if not ids:
        raise AtlasError("no publication fits all of this; leave one of --method, --modality and --search out")
    typer.echo(cite(kb, ids, style), nl=False)


@kb_app.command("version")
def kb_version(json_: AsJson = False) -> None:
    """Print the version of the knowledge base and the digest of its files."""
    kb = load_kb()
    if json_:
        as_json({**kb.about.model_dump(mode="json"), "digest": kb.digest})
    else:
        out.print(f"{kb.about.title} {kb.about.version} ({kb.about.date}) sha256:{kb.digest}", markup=False)


# --- for programs -----------------------------------------------------------------------------------------------------


@app.command()
def mcp() -> None:
    """Serve the knowledge base to assistants over the Model Context Protocol, on standard input and output."""
    import mcp_server

    mcp_server.serve()


# --- trust ------------------------------------------------------------------------------------------------------------

trust_app = typer.Typer(
    cls=Sentences, no_args_is_help=True, help="How far metrics can be trusted: measure it, show it."
)
app.add_typer(trust_app, name="trust")


@trust_app.command("run")
def trust_run(
    metric: Annotated[list[str] | None, typer.Option(help="Metric id, repeatable; all by default.")] = None,
    images: Annotated[int, typer.Option(min=2, help="Images of each planted case.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")] = 0,
) -> None:
    """Judge metrics on planted truth and write the knowledge base's file of it, after each one: it can be stopped."""
    import runners
    from runners.gate import versions
    from runners.trust import judge, planted

    kb = load_kb()
    wanted = _known_ids(metric or sorted(runners.metrics), runners.metrics, "metric")
    found = {name: one for name, one in trust(kb).items() if name in runners.metrics}
    about = {"images": str(images), "seed": str(seed), **versions()}
    cases = planted(images, seed)
    for name in wanted:
        with _bar(kb.metrics[name].name) as progress:
            found[name] = judge(name, kb, cases, seed=seed, progress=progress)
        path = write_trust(found, about, kb)
        out.print(f"{escape(kb.metrics[name].name)}: {escape(found[name].phrase)}")
    out.print(f"Written to {escape(str(path))}")


@trust_app.command("list")
def trust_list(json_: AsJson = False) -> None:
    """List all metrics that were judged, the most trusted first."""
    kb = load_kb()
    found = sorted(trust(kb).items(), key=lambda pair: (-(pair[1].weight or 0.0), pair[0]))
    if json_:
        as_json({name: one.model_dump(mode="json", exclude_defaults=True) for name, one in found})
        return
    for name, one in found:
        out.print(f"{escape(kb.metrics[name].name)} [dim]{escape(name)}[/dim]: {escape(one.phrase)}")
    if not found:
        out.print("No metric was judged yet: run `xai-atlas trust run`.")


# --- benchmark --------------------------------------------------------------------------------------------------------

benchmark_app = typer.Typer(
    cls=Sentences, no_args_is_help=True, help="Measure explanations where we know what decides, compare them, share it."
)
app.add_typer(benchmark_app, name="benchmark")
Database = Annotated[
    str | None, typer.Option(help="SQLAlchemy URL of the results; default: SQLite in your data folder.")
]
Cache = Annotated[Path | None, typer.Option(help="Folder of the trained models; default: your cache folder.")]


@benchmark_app.command("run")
def benchmark_run(
    level: Annotated[str, typer.Option(help="quick (minutes), small (an hour on two cores) or full.")] = "quick",
    jobs: Annotated[int, typer.Option(min=1, help="Processes, a thread each.")] = 1,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; repeatable.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this method; repeatable.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODALITY=FOLDER",
            help="Your pictures with masks of experts instead of our tasks, with --model; repeatable.",
        ),
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --data: id of a bundled model, file or folder.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Pictures of a task in 2D; default: the level's.")] = None,
    volumes: Annotated[int | None, typer.Option(min=1, help="Pictures of a task in 3D; default: the level's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of maps and metrics; give several runs several seeds.")] = 0,
    retry: Annotated[bool, typer.Option("--retry", help="Run again what failed before.")] = False,
    by: Annotated[str | None, typer.Option(help="Who runs it, to be told with the results.")] = None,
    machine: Annotated[str | None, typer.Option(help="What kind of machine, to be told with the results.")] = None,
    database: Database = None,
    cache: Cache = None,
) -> None:
    """Run tasks × methods × pictures × metrics; what is done already is not done again, and Ctrl-C keeps what is done.

    Models are trained on first use. The work is spread over processes of this machine, not over several machines; for
    that, let each run tasks of its own (--task) into one PostgreSQL --database.
    """
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    from runners.bench.run import Progress, run
    from runners.bench.store import open_results
    from runners.bench.tasks import LEVELS
    from runners.bench.work import Own

    kb = load_kb()
    if level not in LEVELS:
        raise UnknownIdError(level, LEVELS, "level")
    if bool(data) != bool(model):
        raise AtlasError("--data and --model belong together: pictures of yours, and the model to explain on them")
    own = []
    for one in data or ():
        modality, equals, folder = one.partition("=")
        if not equals:
            raise AtlasError(f"--data {one}: MODALITY=FOLDER is needed, as in ultrasound=breast")
        own.append(Own(kb.find_by_name(modality, "modalities"), Path(folder), str(model)))
    results, chosen = open_results(database), LEVELS[level]
    with Bars(BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"), console=err) as shown:
        bar = shown.add_task("getting ready", total=1.0)

        def told(state: Progress) -> None:
            left = "" if state.left is None else f", about {_duration(state.left)} left"
            words = f"{state.done} of {state.total}{left}: {state.words}"
            shown.update(bar, completed=state.share, description=escape(words))

        ran = run(
            replace(chosen, images=images or chosen.images, volumes=volumes or chosen.volumes), results, jobs=jobs,
            tasks=task or (() if own else None), methods=method or None, own=own,
            seed=seed, retry=retry, by=by, machine=machine, cache=cache, progress=told,
        )  # fmt: skip
    for name, why in ran.skipped.items():
        err.print(f"[yellow]{escape(name)} was skipped: {escape(why)}[/yellow]")
    for ready in ran.tasks:
        for picture, why in ready.problems.items():
            err.print(
                f"[dim]{ready.task.id}, picture {escape(picture)} does not count for localisation: {escape(why)}[/dim]"
            )
    out.print(
        f"{ran.rows} numbers in {_duration(ran.seconds)} ({ran.failed} of them not defined or failed), {ran.kept} were "
        f"there already{'; stopped by you, run it again to go on' if ran.stopped else ''}."
    )
    if not ran.tasks:
        raise typer.Exit(2)


@benchmark_app.command("report")
def benchmark_report(
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for benchmark.html, .csv and .json.")] = None,
    metric: Annotated[str, typer.Option(help="Metric to print.")] = "relevance_mass_accuracy",
    top: Annotated[int, typer.Option(min=1, help="Methods to print of a task.")] = 5,
    gallery: Annotated[bool, typer.Option(help="Make the worst maps again, for the page; takes a minute.")] = True,
    database: Database = None,
    cache: Cache = None,
    json_: AsJson = False,
) -> None:
    """Tell what the benchmark found: leaderboards, known facts, and with --out a page with tests and failures."""
    from taxonomy.measured import CONTROLS

    kb = load_kb()
    if metric not in kb.metrics and metric not in CONTROLS:
        raise UnknownIdError(metric, [*kb.metrics, *CONTROLS], "metric")
    rows, tasks, found = _benchmark(database)
    if out_dir is not None or not json_:
        from runners.bench import boards, report

        made = boards.tables(rows, kb)
        facts = boards.facts(made, kb, {one.task: one.facts for one in tasks})
    if json_:
        as_json(found.model_dump(mode="json"))
    else:
        _print_boards(found, metric, top, kb)
        out.print("\n[bold]Known facts[/bold]")
        for fact in facts:
            mark = {True: "[green]✔[/green]", False: "[red]✘[/red]", None: "–"}[fact.holds]
            out.print(f"  {mark} {escape(fact.text)}")
    if out_dir is not None:
        failures: list[Any] = []
        if gallery:
            with _bar("The worst maps") as progress:
                failures = report.failures(rows, tasks, cache=cache, progress=progress)
        paths = report.save(out_dir, found, report.html(found, made, kb, facts, failures))
        err.print(f"Written: {escape(', '.join(map(str, paths)))}")


@benchmark_app.command("submit")
def benchmark_submit(
    file: Annotated[
        Path | None, typer.Argument(help="Where to write it; default: the file of the knowledge base.")
    ] = None,
    check_only: Annotated[bool, typer.Option("--check", help="Only check a file that is there.")] = False,
    by: Annotated[str | None, typer.Option(help="Who ran it; nothing is told unless given.")] = None,
    machine: Annotated[str | None, typer.Option(help="On what kind of machine; nothing is told unless given.")] = None,
    database: Database = None,
) -> None:
    """Write the results as one small file, for the package or to send to us, and check it.

    It holds means, intervals, ranks and hashes: no picture, no map, no name of a person, file or computer but what you
    give. The recommender and the app read the one in the knowledge base.
    """
    from taxonomy import measured

    kb = load_kb()
    target = file or measured.folder(kb) / measured.FILE
    found = measured.read_benchmark(target) if check_only else _benchmark(database, by=by, machine=machine)[2]
    if problems := measured.problems(found, kb):
        raise AtlasError("\n".join(problems))
    if not check_only:
        measured.write_benchmark(found, target)
    boards = sum(len(task.boards) for task in found.tasks.values())
    done = "is in order" if check_only else "written"
    out.print(f"{escape(str(target))} {done}: {len(found.tasks)} tasks, {boards} boards, {escape(found.citation)}.")


def _benchmark(database: str | None, *, by: str | None = None, machine: str | None = None) -> tuple[Any, Any, Any]:
    """Return rows, tasks and data file of what was measured last of every task."""
    from runners.bench.boards import collect
    from runners.bench.store import open_results
    from taxonomy.measured import BENCHMARK

    results = open_results(database)
    tasks = results.tasks(BENCHMARK)
    rows = results.rows(BENCHMARK, {one.task: one.task_sha for one in tasks})
    if not rows:
        raise AtlasError("nothing was measured yet: first run `xai-atlas benchmark run`, or give --database")
    runs = results.runs({row.run for row in rows})
    return rows, tasks, collect(rows, tasks, runs, load_kb(), by=by, machine=machine)


def _print_boards(found: Any, metric: str, top: int, kb: KB) -> None:
    from runners.bench.report import metric_name, name_of, task_words

    out.print(f"[bold]{escape(metric_name(metric, kb))}[/bold], mean and 95 % interval; {escape(found.citation)}")
    for name, task in found.tasks.items():
        board = task.boards.get(metric)
        if board is None:
            continue
        out.print(f"\n[bold]{escape(name)}[/bold]: {escape(task_words(task, kb))}")
        table = Table(box=None, pad_edge=False, show_header=False)
        ranked = [line for line in board.lines if line.rank is not None]
        for line in (*ranked[:top], *(line for line in board.lines if line.rank is None)):
            place = f"{line.rank} of {board.of}" if line.rank is not None else ""
            interval = "" if line.low is None else f"{line.low:.3g} to {line.high:.3g}"
            table.add_row(place, escape(name_of(line.method, kb)), f"{line.mean:.3g}", interval, f"n = {line.n}")
        out.print(table)
        if board.p is not None:
            out.print(
                f"[dim]Friedman p = {board.p:.2g}; mean ranks must differ by {board.difference:.2f} to tell two "
                "methods apart[/dim]"
            )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


# --- explain ----------------------------------------------------------------------------------------------------------


# --- experiments ------------------------------------------------------------------------------------------------------

experiment_app = typer.Typer(
    cls=Sentences, no_args_is_help=True, help="The first experiments of the survey's research agenda, one command each."
)
app.add_typer(experiment_app, name="experiment")
OutFolder = Annotated[Path | None, typer.Option("--out", help="New folder for a page and a table of every number.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an earlier result in --out.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same numbers.")]


@experiment_app.command("modalities")
def experiment_modalities(
    method: Annotated[list[str] | None, typer.Option(help="Method id, repeatable; ten of all families else.")] = None,
    model: Annotated[list[str] | None, typer.Option(help="Id of a bundled model, repeatable; all else.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(help="Your images for a bundled model: MODEL=FILE or MODEL=FOLDER; repeatable."),
    ] = None,
    out_dir: OutFolder = None,
    force: Force = False,
    seed: Seed = 0,
) -> None:
    """Compare the same saliency methods across modalities: do they fare alike?"""
    import runners
    from experiments.measuring import files
    from experiments.modalities import METHODS, modalities

    kb = load_kb()
    chosen = _known_ids(method or list(METHODS), runners.explainers, "explainer")
    with _bar("maps") as progress:
        found = modalities(kb, methods=chosen, models=model or (), data=files(data or ()), seed=seed, progress=progress)
    _print_experiment(found, out_dir, force)


@experiment_app.command("branches")
def experiment_branches(
    images: Annotated[int, typer.Option(min=2, help="Phantoms that are explained.")] = 6,
    out_dir: OutFolder = None,
    force: Force = False,
    seed: Seed = 0,
) -> None:
    """Compare maps with changes in a latent space on one task: why did the model mark this lesion?"""
    from experiments.branches import branches

    with _bar("explanations") as progress:
        found = branches(load_kb(), images=images, seed=seed, progress=progress)
    _print_experiment(found, out_dir, force)


@experiment_app.command("clinical")
def experiment_clinical(
    images: Annotated[int, typer.Option(min=2, help="Synthetic patients that are explained.")] = 8,
    out_dir: OutFolder = None,
    force: Force = False,
    seed: Seed = 0,
) -> None:
    """Explain a model of images and a synthetic clinical table by both: how much did each count?"""
    from experiments.clinical import clinical

    with _bar("explanations") as progress:
        found = clinical(load_kb(), images=images, seed=seed, progress=progress)
    _print_experiment(found, out_dir, force)


def _print_experiment(found: Any, folder: Path | None, force: bool) -> None:
    from experiments.page import save

    written = () if folder is None else save(folder, found, force=force)
    out.print(f"[bold]{escape(found.question)}[/bold]")
    for line in found.done:
        out.print(f"[dim]{escape(line)}[/dim]")
    for line in found.answer:
        out.print(f"- {escape(line)}")
    for line in found.limits:
        out.print(f"[yellow]mind[/yellow]  {escape(line)}")
    if written:
        out.print(f"\nWritten to {escape(str(folder))}; open {escape(str(written[0]))}")


@app.command()
def models(json_: AsJson = False) -> None:
    """List the bundled models and the sample images."""
    from runners.load import bundled
    from runners.zoo.samples import samples

    if json_:
        cards = [{"id": card.id, **card.model_dump(mode="json")} for card in bundled()]
        images = [{"id": s.id, "name": s.name, "modality": s.modality, "models": list(s.models)} for s in samples()]
        as_json({"models": cards, "samples": images})
        return
    shown = []
    for card in bundled():
        quality = "; ".join(f"{m.metric} {m.value:.3g} (n = {m.n})" for m in card.measured)
        about = {"task": card.task, "dims": f"{card.dims}D", "modality": card.modality, "measured": quality}
        shown.append({"model": card.id, "name": card.name, **about})
    _print_rows(shown)
    out.print()
    rows = [
        {"sample image": s.id, "name": s.name, "modality": s.modality, "for": ", ".join(s.models)} for s in samples()
    ]
    _print_rows(rows)


@app.command()
def explain(
    image: Annotated[str, typer.Argument(help="File, folder of DICOM slices, or id of a sample image.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="Id of a bundled model, file, folder, timm:NAME or hf:NAME; default: what --language names, read "
            "through its prompts."
        ),
    ] = None,
    factory: Annotated[
        str | None, typer.Option(help="For weights alone: file.py:function that builds the network. It is run.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="classification, segmentation, regression or detection.")] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method id, repeatable; default: what the recommender chooses.")
    ] = None,
    ask: Annotated[str | None, typer.Option(help="What you want to know; guides the choice of methods.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="What to explain: a label's name or number, 'A vs B', 'box N' of a detector, 'grade' or 'steps' of an "
            "ordinal model; default: the answer."
        ),
    ] = None,
    part: Annotated[
        str, typer.Option(help="Of a segmentation: all, boundary, structure, pixel, false_positive or missed.")
    ] = "all",
    at: Annotated[
        str | None, typer.Option(help="Place in the image for a pixel or structure: indices, as in 120,88.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="Another image: explain what makes the two alike to an embedding model.")
    ] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Image like those of the training set, or a folder of them; repeatable.")
    ] = None,
    member: Annotated[
        list[str] | None, typer.Option(help="Further model trained for the same task; repeatable.")
    ] = None,
    cohort: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images like those the model learned from; sub-folders or cohort.csv give labels. The word "
            "phantoms: generated ones, for bundled models that have such."
        ),
    ] = None,
    concepts: Annotated[
        Path | None, typer.Option(help="Folder with a sub-folder of example images for each concept.")
    ] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            help="Clinical value of this case, as age=63; repeatable. A model that reads values beside the image gets "
            "them in this order."
        ),
    ] = None,
    language: Annotated[
        Path | None, typer.Option(help="Folder of a vision-language model (CLIP-like: Hugging Face or open_clip).")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text to ask the vision-language model about; repeatable.")
    ] = None,
    rationale: Annotated[
        Path | None,
        typer.Option(
            help="Text with sentences to check, one a line, each with the region that it cites at its end: a box "
            "[first, last, first, last] in pixels of each axis, or [mask file]."
        ),
    ] = None,
    report: Annotated[
        str | None,
        typer.Option(
            help="Of a model that writes reports: the text whose sentences are explained, or a file with it; default: "
            "what the model writes about the image."
        ),
    ] = None,
    autoencoder: Annotated[
        str | None,
        typer.Option(
            help="Generator of such images: id of a bundled one (default for its model), TorchScript file with encode "
            "and decode, folder with encoder.* and decoder.*, FILE.py:FUNCTION, or weights."
        ),
    ] = None,
    autoencoder_factory: Annotated[
        str | None, typer.Option(help="For weights of a generator: FILE.py:FUNCTION that builds it.")
    ] = None,
    random_check: Annotated[
        bool, typer.Option("--random-check", help="Compare each map with that of the model under random weights.")
    ] = False,
    mask: Annotated[
        Path | None, typer.Option(help="Mask of the finding on the image's grid, to measure against.")
    ] = None,
    in_mask: Annotated[
        bool, typer.Option("--in-mask", help="Explain the mask instead of the region the model marks.")
    ] = False,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Parameter of the methods that have it: NAME=VALUE; repeatable.")
    ] = None,
    metrics: Annotated[bool, typer.Option("--metrics", help="Measure the maps with the quick metrics.")] = False,
    metric: Annotated[list[str] | None, typer.Option(help="Metric id to measure, repeatable.")] = None,
    out_dir: Annotated[Path | None, typer.Option("--out", help="New folder for maps, pictures and report.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in --out.")] = False,
    frame: Annotated[int | None, typer.Option(help="Frame or page of a file with several, from 0.")] = None,
    slice_: Annotated[int | None, typer.Option("--slice", help="Take one slice of a volume, from 0.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same map.")] = 0,
    json_: AsJson = False,
) -> None:
    """Explain what a model says about an image."""
    import runners
    from runners import export as exports
    from runners.bring import language_for, read_features, with_report
    from runners.case import input_spacing, open_case, to_input
    from runners.joint import takes_table, with_values
    from runners.load import load_towers
    from runners.report import could_have_run
    from runners.writing import writes, written
    from trial import METRICS

    kb = load_kb()
    chosen = _known_ids(method or [], runners.explainers | runners.insights, "explainer")
    wanted = _known_ids(metric or [], runners.metrics, "metric")
    if language is None and model and prompt:  # a vision-language model that is itself explained
        language, model = Path(model), None
    towers = None if language is None else load_towers(language)
    source = model or towers
    if source is None:
        raise AtlasError("give a model with --model, or a vision-language model with --language and --prompt")
    loaded = runners.load_model(source, factory=factory, task=_task(task), prompts=None if model and towers else prompt)
    if takes_table(loaded.network):
        loaded.network = with_values(loaded.network, read_features(feature or []))
    shown, marked = _read(image, mask, frame, slice_)
    x = loaded.prepare(shown)
    if report is not None or writes(loaded):
        loaded = with_report(loaded, x, _report(report))
    wired = runners.profile(loaded, x)
    case = open_case(shown, loaded, x, mask=marked, source=image if _sample(image) else "upload")
    region = None if marked is None else to_input(marked, tuple(x.shape[2:]), case.fit)
    if in_mask and region is None:
        raise AtlasError("--in-mask needs a region to explain; give it with --mask FILE")
    inside = region if in_mask or part in ("false_positive", "missed") else None
    what = _likeness(like, loaded) if like else _read_what(target, part, at, inside, case, loaded, x)
    owned = _brought(loaded, cohort, concepts, feature or [], region)
    owned = replace(owned, autoencoder=_drawer(loaded, x, autoencoder, autoencoder_factory))
    if towers is not None:
        owned = replace(owned, language=language_for(towers, prompt or (), loaded))
    if rationale is not None:
        owned = replace(owned, reasons=_reasons(rationale, case, tuple(x.shape[2:])))
    members = [runners.load_model(one, task=_task(task)) for one in member or []]
    given = {
        "reference": _references(reference or [], loaded, frame),
        "members": members,
        "random_check": random_check,
    }

    query = recommender.parse(ask, kb) if ask else recommender.Query()
    if not query.modality and case.modality:
        query = replace(query, modality=(case.modality,))
    able = [one for one in runnable() if not runners.unmet(one, wired, what, **_owned(given))]
    able += [one for one in discoverable() if not runners.unmet_by(one, wired, owned, members=members)]
    advice = recommender.answer(query, kb, profile=wired, runnable=able)
    if not chosen:
        chosen = [*(["report_generation"] if written(loaded) else []), *advice.panel]
        if not chosen:
            would = []
            for one in [r.method for r in advice.recommendations if r.method in discoverable()][:2]:
                lacking = " Also, ".join(gap.sentence for gap in runners.unmet_by(one, wired, owned, members=members))
                would.append(f"{kb.methods[one].name} would: {lacking}")
            told = advice.message or "no method that runs here fits this model; name one with --method"
            raise AtlasError(" ".join((told, *would)))
        err.print(f"Recommended here: {escape(', '.join(kb.methods[one].name for one in chosen))}")
        for ruled in could_have_run(advice.as_json()):
            err.print(f"[dim]{escape(ruled['gap'])}[/dim]")
    if metrics:
        quick = [one for one in METRICS if "explainer" not in kb.metrics[one].needs]
        wanted += [
            one for one in quick if one not in wanted and (region is not None or "mask" not in kb.metrics[one].needs)
        ]

    chosen_settings = _settings(settings or [], chosen)
    spacing = input_spacing(shown, tuple(x.shape[2:]), case.fit)
    results = [
        _one(loaded, x, one, what, wanted, region, spacing, seed, kb, given | chosen_settings[one])
        if one in runners.explainers
        else _insight(loaded, x, one, what, owned, seed, kb, {"members": members} | chosen_settings[one])
        for one in chosen
    ]
    if out_dir is not None:
        exports.save(out_dir, case, results, kb, answer=advice.as_json(), force=force)
    if json_:
        as_json(exports.record(case, results, answer=advice.as_json()))
    else:
        _print_results(case, results, kb, out_dir)
    if all(one.found is None for one in results):
        raise typer.Exit(2)


@app.command()
def sanity(
    model: Annotated[str, typer.Option(help="Id of a bundled model, file, folder, timm:NAME or hf:NAME.")],
    image: Annotated[str, typer.Option(help="File, folder of DICOM slices, or id of a sample image.")],
    method: Annotated[
        list[str] | None, typer.Option(help="Method id, repeatable; default: what the recommender chooses.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Mask of the finding on the image's grid: does the model use it?")
    ] = None,
    train_data: Annotated[
        Path | None,
        typer.Option(
            help="Training images for the test with random labels: a folder with a folder for each label, or with "
            "labels.csv (columns file and label)."
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="A label's name or number to explain; default: the answer.")
    ] = None,
    budget: Annotated[
        str, typer.Option(help="Time it may take, as in 60s or 5min; what is done then is kept.")
    ] = "60s",
    factory: Annotated[
        str | None, typer.Option(help="For weights alone: file.py:function that builds the network. It is run.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="classification, segmentation, regression or detection.")] = None,
    reference: Annotated[
        list[str] | None, typer.Option(help="Image like those of the training set, or a folder of them; repeatable.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same verdict.")] = 0,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="New folder for the verdict as a page, maps and report.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export in --out.")] = False,
    json_: AsJson = False,
) -> None:
    """Test whether the maps of a model may be believed: random weights, random labels, a planted marker and more."""
    import runners
    from runners.sanity import examine, read_labelled

    kb = load_kb()
    chosen = _known_ids(method or [], runners.explainers, "explainer")
    seconds, folders = _seconds(budget), _folders(out_dir, 1, force)
    loaded, (one,) = _subjects(model, [image], [mask] if mask else [], target, factory, _task(task))
    like = _references(reference or [], loaded, None)
    given = {} if like is None else {"reference": like}
    labelled = None if train_data is None else read_labelled(train_data, loaded, seed)
    if not chosen:
        chosen = list(recommender.panel_for(one.wired, one.case.modality, kb, able=_able(one, given)))
        if not chosen:
            raise AtlasError("no method that runs here fits this model; name one with --method")
        err.print(f"Recommended here: {escape(', '.join(kb.methods[name].name for name in chosen))}")

    def start(report: Callable[[str, int, int], None]) -> Iterator[Sanity]:
        return examine(
            loaded, one, chosen, kb, training=labelled, budget=seconds, seed=seed, given=given, progress=report
        )

    found = _within(seconds, start)
    for folder in folders:
        _save_sanity(found, folder, force)
    if json_:
        as_json(found.as_json())
    else:
        _print_sanity(found, out_dir)
    if not found.methods:
        raise typer.Exit(2)


def _able(one: Subject, given: dict[str, Any]) -> list[str]:
    """Return the methods that can explain this."""
    import runners

    return [name for name in runnable() if not runners.unmet(name, one.wired, one.target, **given)]


def _save_sanity(found: Sanity, folder: Path, force: bool) -> None:
    from runners import export as exports
    from runners.verdict import page

    exports.save(folder, found.subject.case, found.results, found.kb, force=force)
    text = json.dumps(found.as_json(), indent=2, ensure_ascii=False)
    (folder / "sanity.json").write_text(text + "\n", encoding="utf-8")
    (folder / "sanity.html").write_text(page(found), encoding="utf-8")


_VERDICTS = {"passes": "[green]✓ passes[/green]", "fails": "[bold red]✗ fails[/bold red]", "cannot say": "? cannot say"}


def _print_sanity(found: Sanity, folder: Path | None) -> None:
    from runners.sanity import QUESTIONS

    kb, sources = found.kb, dict[str, int]()
    ended = f" [yellow]({escape(found.ended)})[/yellow]" if found.ended else ""
    name = escape(str(found.subject.case.model["name"]))
    out.print(f"[bold]May these maps be believed?[/bold] {name}, {escape(found.target)}; {found.seconds:.1f} s{ended}")
    for result in found.results:
        if result.error:
            out.print(f"  [red]{escape(kb.methods[result.method].name)}: {escape(result.error)}[/red]")
    for method in found.methods:
        verdict, text = found.overall(method)
        out.print(f"  {_VERDICTS[verdict]}  [bold]{escape(text)}[/bold]")
    for test in found.planned:
        about = QUESTIONS[test]
        own = [one for one in found.findings if one.test == test]
        if not own:
            continue
        out.print(
            f"\n[bold]{escape(about.asks)}[/bold] [dim]({escape(about.name)}){_cites(about.sources, sources)}[/dim]"
        )
        if trusted := about.trusted(kb):
            out.print(f"  [dim]{escape(trusted)}[/dim]")
        if len({one.why for one in own}) == 1:
            out.print(f"  {_VERDICTS[own[0].verdict]}  {escape(own[0].why)}")
            continue
        for one in own:
            who = f"{escape(kb.methods[one.method].name)}: " if one.method else ""
            out.print(f"  {_VERDICTS[one.verdict]}  {who}{escape(one.why)}{_drawn(one)}")
    _print_sources(sources, kb)
    out.print("\n[dim]The tests judge these maps of this model on this image, not whether the model is right.[/dim]")
    if folder is not None:
        out.print(f"Written to {escape(str(folder))}; open {escape(str(folder / 'sanity.html'))}")
    else:
        out.print("[dim]The verdict as a page with its curves and pictures: add --out FOLDER.[/dim]")


def _drawn(one: Finding) -> str:
    """Return the curve of a test as a row of bars."""
    values = one.curves.get("similarity")
    if not values:
        return ""
    bars = "".join("▁▂▃▄▅▆▇█"[round(7 * min(1.0, max(0.0, value)))] for value in values)
    return f" [dim]{bars}[/dim]"


def _report(given: str | None) -> str | None:
    """Return the text of a file, or what was given where there is no such file."""
    try:
        return Path(given).read_text(encoding="utf-8") if given and Path(given).is_file() else given
    except OSError:  # too long for a name: it is the text
        return given
    except UnicodeDecodeError as error:
        raise AtlasError(f"{given} is no text in UTF-8; save the report as plain text") from error


def _known_ids(given: Sequence[str], allowed: dict[str, Any], what: str) -> list[str]:
    for one in given:
        if one not in allowed:
            raise UnknownIdError(one, allowed, what)
    return list(dict.fromkeys(given))


def _task(task: str | None) -> Any:
    allowed = ("classification", "segmentation", "regression", "detection")
    if task is not None and task not in allowed:
        raise UnknownIdError(task, allowed, "task")
    return task


def _sample(name: str) -> Any:
    """Return the sample image of this id, unless a file has this name."""
    from runners.zoo.samples import samples

    return None if Path(name).exists() else next((one for one in samples() if one.id == name), None)


def _read(name: str, mask: Path | None, frame: int | None, slice_: int | None) -> tuple[Image, Tensor | None]:
    """Return the image and its mask, or one slice of both."""
    from runners.images import load_image, load_mask

    sample = _sample(name)
    image = sample.load() if sample else load_image(name, frame=frame)
    reference = load_mask(mask, like=image) if mask else sample.mask() if sample else None
    if reference is not None:
        reference = reference > 0
    if slice_ is None:
        return image, reference
    if reference is not None:
        reference = image.view(reference, None, slice_).contiguous()
    return image.slice(None, slice_), reference


def _owned(given: dict[str, Any]) -> dict[str, Any]:
    """What the owner of the model brought along."""
    return {key: given[key] for key in ("reference", "members")}


def _read_what(
    target: str | None, part: str, at: str | None, mask: Tensor | None, case: Case, model: Model, x: Tensor
) -> Target:
    """Turn the options that say what is explained into a target."""
    from runners.case import at_input, read_target
    from runners.targets import Part

    if part not in get_args(Part):
        raise UnknownIdError(part, get_args(Part), "part")
    place = None
    if at is not None:
        try:
            place = at_input([int(i) for i in at.split(",")], case.image.shape, tuple(x.shape[2:]), case.fit)
        except ValueError as error:
            raise AtlasError(f"--at {at}: whole numbers with commas between them are needed, as in 120,88") from error
    return read_target(target, model.card, mask, task=case.model["task"], part=cast("Part", part), at=place)


def _likeness(name: str, model: Model) -> Target:
    """Take the embedding of another image to compare with."""
    import torch

    from runners import Similarity, load_image
    from runners.models import preserved, run
    from runners.targets import primary

    sample = _sample(name)
    other = model.prepare(sample.load() if sample else load_image(name))
    with preserved(model), torch.no_grad():
        return Similarity(primary(run(model, other))[0])


def _references(names: Sequence[str], model: Model, frame: int | None) -> Tensor | None:
    """Read images like those of the training set, each prepared like the image; a folder is read whole."""
    import torch

    from runners import load_image

    files: list[str] = []
    for name in names:
        folder = Path(name)
        inside = sorted(str(path) for path in folder.iterdir() if path.is_file()) if folder.is_dir() else [name]
        files += inside
    if not files:
        return None
    prepared = [model.prepare(_sample(one).load() if _sample(one) else load_image(one, frame=frame)) for one in files]
    if len({tuple(one.shape) for one in prepared}) > 1:
        raise AtlasError("the reference images have different sizes for this model; give images of one size")
    return torch.cat(prepared)


def _settings(given: Sequence[str], chosen: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the parameters of every method from NAME=VALUE; each must belong to one of them at least."""
    import runners
    from runners.registry import parameters

    known = {one: parameters((runners.explainers | runners.insights)[one]) for one in chosen}
    found: dict[str, dict[str, Any]] = {one: {} for one in chosen}
    for setting in given:
        name, equals, value = setting.partition("=")
        takers = [one for one in chosen if name in known[one]]
        if not equals or not takers:
            allowed = sorted({key for names in known.values() for key in names})
            raise AtlasError(f"--set {setting}: NAME=VALUE is needed, with one of: {', '.join(allowed) or 'none'}")
        for one in takers:
            read = yaml.safe_load(value)
            found[one][name] = float(read) if isinstance(known[one][name], float) and type(read) is int else read
    return found


def _one(
    model: Model,
    x: Tensor,
    method: str,
    target: Target,
    wanted: Sequence[str],
    mask: Tensor | None,
    spacing: tuple[float, ...] | None,
    seed: int,
    kb: KB,
    given: dict[str, Any],
) -> Result:
    """Run one method and measure its map; what fails is told and kept as a sentence."""
    from runners.case import explained, scored

    name = kb.methods[method].name
    with _bar(name) as progress:
        found = explained(model, x, method, target, seed=seed, progress=progress, **given)
    if found.explanation is None:
        err.print(f"[red]{escape(name)}: {escape(str(found.error))}[/red]")
        return found
    scores = []
    for metric in wanted:
        with _bar(f"{name}: {kb.metrics[metric].name}") as progress:
            more = {"seed": seed, "spacing": spacing, "progress": progress} | _owned(given)
            score = scored(metric, model, x, found, target, mask, kb, **more)
        scores.append(score)
    return replace(found, measured=tuple(scores))


def _insight(
    model: Model, x: Tensor, method: str, target: Target, owned: Owned, seed: int, kb: KB, given: dict[str, Any]
) -> Result:
    """Run one method whose answer is not a map; what fails is told and kept as a sentence."""
    from runners.case import discovered

    name = kb.methods[method].name
    with _bar(name) as progress:
        found = discovered(model, x, method, target, owned=owned, seed=seed, progress=progress, **given)
    if found.error is not None:
        err.print(f"[red]{escape(name)}: {escape(found.error)}[/red]")
    return found


def _reasons(file: Path, case: Case, shape: tuple[int, ...]) -> tuple[Reason, ...]:
    """Read sentences to check from a file."""
    from runners.bring import read_reasons

    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise AtlasError(f"{file} cannot be read as text: {error}") from error
    return read_reasons(text, case, shape, file.parent)


def _brought(
    model: Model, cohort: Path | None, concepts: Path | None, features: Sequence[str], mask: Tensor | None
) -> Owned:
    """Read what the owner of the model brought along."""
    from runners import Owned
    from runners.bring import read_cohort, read_concepts, read_features

    read: dict[str, Any] = {"features": read_features(features), "mask": mask}
    for name, folder, reader in (("cohort", cohort, read_cohort), ("concepts", concepts, read_concepts)):
        if folder is not None:
            with _bar(f"reading the {name}") as progress:
                read[name] = reader(folder, model, progress=progress)
    return Owned(**read)


def _drawer(model: Model, x: Tensor, source: str | None, factory: str | None) -> Autoencoder | None:
    """Read the generator that the user names, or take the one that is bundled for the model."""
    from runners.generators import autoencoder_of, load_autoencoder

    name = source or autoencoder_of(model)
    return None if name is None else load_autoencoder(name, x, factory=factory)


@contextmanager
def _bar(words: str) -> Iterator[Any]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=err) as progress:
        task = progress.add_task(escape(words), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
        progress.update(task, completed=1, total=1)


def _print_results(case: Case, results: Sequence[Result], kb: KB, folder: Path | None) -> None:
    from runners.forms import in_words
    from runners.panels import measured_words

    for line in case.answer:
        out.print(f"{escape(str(case.model['name']))}: {escape(_said(line))}")
    for one in results:
        if one.found is None:
            continue
        passes = sum(one.found.passes.values())
        out.print(f"\n[bold]{escape(kb.methods[one.method].name)}[/bold] explains {escape(one.found.target)}")
        out.print(f"   [dim]{one.found.seconds:.1f} s, {passes:,} model passes[/dim]")
        if one.insight is not None:
            for words in (*in_words(one.insight.form), *measured_words(one.insight, kb)):
                out.print(f"   {escape(words)}")
        for note in one.found.notes:
            out.print(f"   [dim]{escape(note)}[/dim]")
        for caution in one.found.cautions:
            out.print(f"   [yellow]mind[/yellow]  {escape(caution)}")
        for score in one.measured:
            better = kb.metrics[score.metric].direction
            value = "not defined" if score.value is None else f"{score.value:.3f}"
            hint = f" ({better} is better)" if better else ""
            judged = trust(kb).get(score.metric)
            hint += f"; {judged.phrase}" if judged else ""
            out.print(f"   {escape(kb.metrics[score.metric].name)} {value}[dim]{escape(hint)}[/dim]")
            for note in score.notes:
                out.print(f"      [dim]{escape(note)}[/dim]")
    if folder is None:
        out.print("\n[dim]Pictures, maps and a report: add --out FOLDER.[/dim]")
    else:
        out.print(f"\nWritten to {escape(str(folder))}; open {escape(str(folder / 'report.html'))}")


if __name__ == "__main__":
    app()
