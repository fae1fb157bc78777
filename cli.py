"""The command ``xai-atlas``: ask, look things up, explain. A face: it reads arguments and prints.

``torch`` is imported only by ``explain`` and ``models``.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
import yaml
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

import recommender
from runners import runnable
from taxonomy import KB, AtlasError, KBError, UnknownIdError, check, load_kb
from taxonomy.schema import Publication

if TYPE_CHECKING:
    from torch import Tensor

    from runners.case import Case, Result
    from runners.images import Image
    from runners.load import Model
    from runners.targets import Target

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
) -> None:
    """Recommend methods, with reasons and sources."""
    kb = load_kb()
    found = recommender.answer(question, kb, runnable=runnable(), top=top or (None if json_ else 5))
    if json_:
        as_json(found.as_json())
    else:
        _print_answer(found, kb)


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


def _print_answer(found: recommender.Answer, kb: KB) -> None:
    if found.message:
        out.print(f"[yellow]{escape(found.message)}[/yellow]")
    understood = {field: words for field, words in found.query.spans.items() if words}
    if understood:
        out.print("[dim]Understood: " + escape("; ".join(f"{k} from “{v}”" for k, v in understood.items())) + "[/dim]")
    if found.query.unmatched:
        out.print(f"[dim]Not understood: {escape(', '.join(found.query.unmatched))}[/dim]")
    cited: dict[str, int] = {}
    for number, one in enumerate(found.recommendations, 1):
        here = " [green]runs here[/green]" if one.runnable else ""
        out.print(f"\n[bold]{number}. {escape(one.name)}[/bold] ({one.method}), {one.score:.1f} points{here}")
        for reason in (r for r in one.reasons if abs(r.points) >= 0.05):
            out.print(f"   {reason.points:+.1f}  {escape(reason.text)}{_cites(reason.cites, cited)}")
        for condition in one.conditions:
            out.print(f"   only  {escape(condition)}")
        for caution in one.cautions[:3]:
            out.print(f"   [yellow]mind[/yellow]  {escape(caution.text)}{_cites(caution.sources, cited)}")
        if one.metrics:
            out.print(f"   [dim]check it with {escape(', '.join(kb.metrics[m].name for m in one.metrics[:4]))}[/dim]")
    if found.panel:
        out.print(f"\n[bold]Run together:[/bold] {escape(', '.join(kb.methods[m].name for m in found.panel))}")
    for sentence in found.protocol:
        out.print(f"  • {escape(sentence)}")
    if found.cautions:
        out.print("\n[bold]What makes it hard here[/bold]")
        for statement in found.cautions:
            out.print(f"  • {escape(statement.text)}{_cites(statement.sources, cited)}")
    if found.ruled_out:
        out.print(f"\n[bold]Ruled out[/bold] ({len(found.ruled_out)} methods; the most promising)")
        for ruled in found.ruled_out[:5]:
            out.print(f"  • {escape(ruled.gap)}")
    _print_sources(cited, kb)


def _cites(ids: Sequence[str], cited: dict[str, int], limit: int = 4) -> str:
    """Return the numbers of sources, and give new ones a number."""
    numbers = [cited.setdefault(one, len(cited) + 1) for one in ids[:limit]]
    more = f" +{len(ids) - limit}" if len(ids) > limit else ""
    return escape(f" [{', '.join(map(str, numbers))}{more}]") if numbers else ""


def _print_sources(cited: dict[str, int], kb: KB) -> None:
    if cited:
        out.print("\n[bold]Sources[/bold]")
    for one, number in cited.items():
        paper = kb.publications[one]
        out.print(f"  {number}. {escape(paper.title)} ({paper.year or 'n.d.'}) {paper.link}")


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
    from taxonomy.questions import bearings, neighbours

    found, kind = kb.get(entity_id), kb.kind(entity_id)
    fields: dict[str, Any] = {"id": entity_id, "kind": kind, **found.model_dump(mode="json")}
    if kind == "methods":
        fields |= {
            "branch": kb.branch(entity_id),
            "runnable": entity_id in runnable(),
            "publications": list(kb.index.by_method.get(entity_id, ())),
            "relatives": [n.method for n in neighbours(kb, entity_id)],
            "eases": [b.challenge for b in bearings(kb, entity_id) if b.eases],
            "suffers_from": [b.challenge for b in bearings(kb, entity_id) if not b.eases],
        }
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
        _print_sources({one: n for n, one in enumerate(_sources(found.model_dump(), kb), 1)}, kb)


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
    cited: dict[str, int] = {}
    out.print(f"[bold]{escape(kb.methods[method].name)} in {escape(kb.modalities[modality].name)}[/bold]")
    if not found:
        out.print("No publication tried it there: a gap.")
    for one in found:
        claims = one.claims or ("it was used; nothing was found about it",)
        for claim in claims:
            text = claim if isinstance(claim, str) else f"{claim.criterion}, {claim.outcome}: {claim.text}"
            out.print(f"  • {escape(text)}{_cites([one.publication.id], cited)}")
    for effect in effects:
        verb = "eases" if effect.eases else "suffers from"
        text = f"{verb} “{kb.challenges[effect.challenge].name}”: {effect.effect.text}"
        out.print(f"  • {escape(text)}{_cites(effect.effect.sources, cited)}")
    _print_ways(ways)
    _print_sources(cited, kb)


def _show_disagreements(kb: KB, method: str | None, modality: str | None, top: int, json_: bool) -> None:
    from taxonomy.questions import disagreements

    found = disagreements(kb, method, modality)
    if json_:
        from taxonomy.report import contradiction

        as_json([contradiction(one) for one in found])
        return
    if not found:
        out.print("No publications in the knowledge base disagree here.")
    cited: dict[str, int] = {}
    for one in found[:top]:
        direct = " [yellow](opposite order)[/yellow]" if one.opposed else ""
        title = f"{kb.methods[one.method].name}, {one.criterion.replace('_', ' ')}, {kb.modalities[one.modality].name}"
        out.print(f"\n[bold]{escape(title)}[/bold]{direct}")
        for mark, findings in (("+", one.for_), ("-", one.against)):
            for finding in findings:
                out.print(f"  {mark} {escape(finding.claim.text)}{_cites([finding.publication], cited)}")
    _print_more(len(found), top)
    _print_sources(cited, kb)


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


def _sources(value: Any, kb: KB) -> list[str]:
    """Return the publications that an entity's data names, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return list(dict.fromkeys(one for item in value for one in _sources(item, kb)))
    return [value] if isinstance(value, str) and value in kb.publications else []


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
            row |= {"branch": kb.branch(entity_id), "family": family, "runnable": entity_id in runnable()}
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
        moved = changed_recommendations(before, after, runnable=runnable()) if recommendations and found else []
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


# --- explain ----------------------------------------------------------------------------------------------------------


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
    model: Annotated[str, typer.Option(help="Id of a bundled model, file, folder, timm:NAME or hf:NAME.")],
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
    from runners.case import open_case, to_input
    from runners.report import could_have_run

    kb = load_kb()
    chosen = _known_ids(method or [], runners.explainers, "explainer")
    wanted = _known_ids(metric or [], runners.metrics, "metric")
    loaded = runners.load_model(model, factory=factory, task=_task(task))
    shown, marked = _read(image, mask, frame, slice_)
    x = loaded.prepare(shown)
    wired = runners.profile(loaded, x)
    case = open_case(shown, loaded, x, mask=marked, source=image if _sample(image) else "upload")
    region = None if marked is None else to_input(marked, tuple(x.shape[2:]), case.fit)
    if in_mask and region is None:
        raise AtlasError("--in-mask needs a region to explain; give it with --mask FILE")
    inside = region if in_mask or part in ("false_positive", "missed") else None
    what = _likeness(like, loaded) if like else _read_what(target, part, at, inside, case, loaded, x)
    given = {
        "reference": _references(reference or [], loaded, frame),
        "members": [runners.load_model(one, task=_task(task)) for one in member or []],
        "random_check": random_check,
    }

    query = recommender.parse(ask, kb) if ask else recommender.Query()
    if not query.modality and case.modality:
        query = replace(query, modality=(case.modality,))
    able = [one for one in runnable() if not runners.unmet(one, wired, what, **_owned(given))]
    advice = recommender.answer(query, kb, profile=wired, runnable=able)
    if not chosen:
        chosen = list(advice.panel)
        if not chosen:
            raise AtlasError(advice.message or "no method that runs here fits this model; name one with --method")
        err.print(f"Recommended here: {escape(', '.join(kb.methods[one].name for one in chosen))}")
        for ruled in could_have_run(advice.as_json()):
            err.print(f"[dim]{escape(ruled['gap'])}[/dim]")
    if metrics:
        quick = [one for one in runners.metrics if "explainer" not in kb.metrics[one].needs]
        wanted += [
            one for one in quick if one not in wanted and (region is not None or "mask" not in kb.metrics[one].needs)
        ]

    chosen_settings = _settings(settings or [], chosen)
    results = [_one(loaded, x, one, what, wanted, region, seed, kb, given | chosen_settings[one]) for one in chosen]
    if out_dir is not None:
        exports.save(out_dir, case, results, kb, answer=advice.as_json(), force=force)
    if json_:
        as_json(exports.record(case, results, answer=advice.as_json()))
    else:
        _print_results(case, results, kb, out_dir)
    if all(one.explanation is None for one in results):
        raise typer.Exit(2)


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

    known = {one: parameters(runners.explainers[one]) for one in chosen}
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
    seed: int,
    kb: KB,
    given: dict[str, Any],
) -> Result:
    """Run one method and measure its map; what fails is told and kept as a sentence."""
    import runners
    from runners.case import Measured, Result, measured

    name = kb.methods[method].name
    try:
        with _bar(name) as progress:
            found = runners.explain(model, x, method, target, seed=seed, progress=progress, **given)
    except AtlasError as error:
        err.print(f"[red]{escape(name)}: {escape(str(error))}[/red]")
        return Result(method, error=str(error))
    scores = []
    for metric in wanted:
        needs_mask = "mask" in kb.metrics[metric].needs
        try:
            with _bar(f"{name}: {kb.metrics[metric].name}") as progress:
                score = runners.measure(
                    metric,
                    model,
                    x,
                    found,
                    target,
                    mask=mask if needs_mask else None,
                    seed=seed,
                    progress=progress,
                    **_owned(given),
                )
            scores.append(measured(metric, score))
        except AtlasError as error:
            err.print(f"[red]{escape(name)}: {escape(str(error))}[/red]")
            scores.append(Measured(metric, None, notes=(str(error),)))
    return Result(method, found, tuple(scores))


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
    for line in case.answer:
        percent = line.unit == "probability"
        size = f"{line.value:.1%}" if percent else f"{line.value:,.4g} {'' if line.unit == 'value' else line.unit}"
        out.print(f"{escape(str(case.model['name']))}: {escape(line.label)} {size}")
    for one in results:
        if one.explanation is None:
            continue
        passes = sum(one.explanation.passes.values())
        out.print(f"\n[bold]{escape(kb.methods[one.method].name)}[/bold] explains {escape(one.explanation.target)}")
        out.print(f"   [dim]{one.explanation.seconds:.1f} s, {passes:,} model passes[/dim]")
        for note in one.explanation.notes:
            out.print(f"   [dim]{escape(note)}[/dim]")
        for caution in one.explanation.cautions:
            out.print(f"   [yellow]mind[/yellow]  {escape(caution)}")
        for score in one.measured:
            better = kb.metrics[score.metric].direction
            value = "not defined" if score.value is None else f"{score.value:.3f}"
            hint = f" ({better} is better)" if better else ""
            out.print(f"   {escape(kb.metrics[score.metric].name)} {value}[dim]{hint}[/dim]")
            for note in score.notes:
                out.print(f"      [dim]{escape(note)}[/dim]")
    if folder is None:
        out.print("\n[dim]Pictures, maps and a report: add --out FOLDER.[/dim]")
    else:
        out.print(f"\nWritten to {escape(str(folder))}; open {escape(str(folder / 'report.html'))}")


if __name__ == "__main__":
    app()
