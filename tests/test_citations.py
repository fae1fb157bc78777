"""References: written for reference managers, read back by independent parsers, and taken in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import bibtexparser
import pytest
import rispy
from toykb import TOY, copy_toy

from recommender.intake import understand
from taxonomy import KB, AtlasError, KBError, UnknownIdError, load_kb
from taxonomy.citations import cite
from taxonomy.intake import TODO, Reference, Understood, checked, doubles, propose, read_references, write
from taxonomy.writing import dump


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def kb() -> KB:
    return load_kb(TOY)


@pytest.fixture(scope="module")
def real() -> KB:
    return load_kb()


# --- written ---------------------------------------------------------------------------------------------------------


def test_bibtex_is_read_back_by_a_parser(real: KB) -> None:
    library = bibtexparser.parse_string(cite(real, real.publications))
    assert not library.failed_blocks
    entries = {entry.key: {field.key: field.value for field in entry.fields} for entry in library.entries}
    assert set(entries) == set(real.publications)
    for key, publication in real.publications.items():
        assert entries[key].get("doi") == publication.doi
        assert entries[key].get("eprint") == publication.arxiv
        assert ("author" in entries[key]) == bool(publication.first_author)


def test_bibtex_escapes_what_tex_reads_as_an_order(kb: KB) -> None:
    paper = kb.publications["toy_2020_cxr"].model_copy(update={"title": "5 % of A & B_1 {#2} at ~ $3 \\ é"})
    written = cite(replace(kb, publications={"toy_2020_cxr": paper}), ["toy_2020_cxr"])
    assert r"{{5 \% of A \& B\_1 \{\#2\} at \~{} \$3 \textbackslash  é}}" in written


def test_ris_and_csl_are_read_back(real: KB) -> None:
    ids = list(real.publications)
    ris = {entry["id"]: entry for entry in rispy.loads(cite(real, ids, "ris"))}
    csl = {entry["id"]: entry for entry in json.loads(cite(real, ids, "csl"))}
    for one, publication in real.publications.items():
        assert ris[one]["title"] == csl[one]["title"] == publication.title
        assert ris[one].get("doi") == csl[one].get("DOI") == publication.doi
        year = csl[one].get("issued", {}).get("date-parts", [[None]])[0][0]
        assert year == publication.year


def test_each_publication_is_cited_once_and_unknown_names_are_told(kb: KB) -> None:
    assert cite(kb, ["toy_2020_cxr", "toy_2020_cxr"]).count("@article") == 1
    with pytest.raises(UnknownIdError, match="publication 'nothing'"):
        cite(kb, ["nothing"])
    with pytest.raises(UnknownIdError, match="citation style 'apa'"):
        cite(kb, [], "apa")


# --- read ------------------------------------------------------------------------------------------------------------

WHOLE = Reference(
    title="Grad-CAM for chest X-ray classification",
    year=2025,
    first_author="Müller, Jörg",
    venue="Some & Journal",
    doi="10.1234/abc.(5)",
    abstract="We compare it with RISE.",
)
BIBTEX = r"""@article{key, author = {M{\"u}ller, J{\"o}rg and Doe, Jane}, title = {{Grad-CAM} for chest X-ray
  classification}, journal = {Some \& Journal}, year = 2025, doi = {https://doi.org/10.1234/abc.(5)},
  abstract = {We compare it with RISE.}}"""
RIS = """TY  - JOUR
AU  - Müller, Jörg
AU  - Doe, Jane
TI  - Grad-CAM for chest X-ray classification
T2  - Some & Journal
PY  - 2025
DO  - 10.1234/abc.(5)
AB  - We compare it with RISE.
ER  -
"""
CSL = json.dumps(
    [
        {
            "title": WHOLE.title,
            "author": [{"family": "Müller", "given": "Jörg"}, {"family": "Doe"}],
            "issued": {"date-parts": [[2025, 3]]},
            "container-title": "Some & Journal",
            "DOI": "10.1234/abc.(5)",
            "abstract": "We compare it with RISE.",
        }
    ]
)


@pytest.mark.parametrize("text", [BIBTEX, RIS, CSL], ids=["bibtex", "ris", "csl"])
def test_three_formats_say_the_same(text: str) -> None:
    assert read_references(text) == [WHOLE]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1234/abc.5", Reference(doi="10.1234/abc.5")),
        ("https://doi.org/10.1234/abc.5.", Reference(doi="10.1234/abc.5")),
        ("see (doi:10.1234/abc.5)", Reference(doi="10.1234/abc.5")),
        ("arXiv:1610.02391v3", Reference(arxiv="1610.02391")),
        ("1610.02391", Reference(arxiv="1610.02391")),
        ("cs.CV/0112017v2", Reference(arxiv="cs.CV/0112017")),
        ("https://arxiv.org/pdf/1610.02391v4", Reference(arxiv="1610.02391")),
        ("https://doi.org/10.48550/arXiv.1610.02391", Reference(arxiv="1610.02391")),
        ("https://example.org/paper", Reference(url="https://example.org/paper")),
        ("A title without anything else", Reference(title="A title without anything else")),
        (
            'Doe, Jane, Roe, K. "Maps that say where they look." Journal 12 (2021). doi:10.1234/x1',
            Reference(title="Maps that say where they look", year=2021, first_author="Doe, Jane", doi="10.1234/x1"),
        ),
        (  # Vancouver
            "van der Doe JQ, Van Berg K, et al. Maps of MRI: where they look. Med Image Anal. 2021;12(3):4-5.",
            Reference(title="Maps of MRI: where they look", year=2021, first_author="van der Doe, J. Q."),
        ),
        (  # APA
            "Doe, J. Q., Roe-Poe, K., & Zed, A. (2021). Maps that say where they look. Journal, 12, 4. "
            "https://doi.org/10.1234/x1",
            Reference(title="Maps that say where they look", year=2021, first_author="Doe, J. Q.", doi="10.1234/x1"),
        ),
        (  # Chicago
            "Doe, Jane. Grad-CAM for thyroid ultrasound. 2025. doi:10.1000/example",
            Reference(
                title="Grad-CAM for thyroid ultrasound", year=2025, first_author="Doe, Jane", doi="10.1000/example"
            ),
        ),
        (  # IEEE
            "J. Q. Doe and K. Roe, “Maps that say where they look,” in Proc. Conf., 2021, pp. 4-5.",
            Reference(title="Maps that say where they look", year=2021, first_author="Doe, J. Q."),
        ),
    ],
)
def test_a_pasted_reference(text: str, expected: Reference) -> None:
    assert read_references(text) == [expected]


@pytest.mark.parametrize("style", ["bibtex", "ris", "csl"])
def test_what_we_write_says_the_same_when_we_read_it(real: KB, style: str) -> None:
    read = read_references(cite(real, real.publications, style))
    for publication, reference in zip(real.publications.values(), read, strict=True):
        for name in ("year", "first_author", "venue", "doi", "arxiv"):
            assert getattr(reference, name) == getattr(publication, name), (publication.id, name)
        assert reference.title == publication.title.rstrip("."), publication.id


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("Ludwig van der Berg and Doe, J.", "van der Berg, Ludwig"),
        ("{Imaging Group of {ACME}} and Doe, J.", "Imaging Group of ACME"),
        ("de Vries and others", "de Vries"),
        ("others", None),
    ],
)
def test_names_as_bibtex_has_them(author: str, expected: str | None) -> None:
    (found,) = read_references(f"@misc{{a, title={{T}}, author={{{author}}}}}")
    assert found.first_author == expected


@pytest.mark.parametrize(
    "given",
    [
        {"title": ["T"], "author": [{"family": "Doe"}], "container-title": ["J"], "issued": {"raw": "May 2020"}},
        {"title": "T", "author": ["Doe"], "container-title": "J", "issued": "2020-05"},
        {"title": "T", "author": {"literal": "Doe"}, "container-title": "J", "issued": {"date-parts": [["2020"]]}},
    ],
    ids=["crossref", "words", "one author"],
)
def test_json_as_services_write_it(given: dict[str, object]) -> None:
    expected = Reference(title="T", year=2020, first_author="Doe", venue="J")
    assert read_references(json.dumps(given)) == [expected]


def test_a_mark_at_the_beginning_of_a_file_is_no_part_of_it() -> None:
    assert read_references("\ufeff" + RIS) == [WHOLE]


def test_an_arxiv_preprint_in_bibtex() -> None:
    text = "@misc{a, title={T}, author={Jane Q. Doe}, eprint={2101.00001}, archivePrefix={arXiv}, year={2021}}"
    assert read_references(text) == [Reference(title="T", year=2021, first_author="Doe, Jane Q.", arxiv="2101.00001")]


@pytest.mark.parametrize(
    "text", ["", "  \n", "hello", "@article{a, title = {broken", "TY  - JOUR\n", '[{"no": "paper"}]', "{}"]
)
def test_what_is_no_reference_is_told(text: str) -> None:
    with pytest.raises(AtlasError):
        read_references(text)


@pytest.mark.parametrize("style", ["bibtex", "ris", "csl"])
def test_what_we_write_we_take_in_as_a_double(real: KB, style: str) -> None:
    ids = list(real.publications)[::40]
    for one, reference in zip(ids, read_references(cite(real, ids, style)), strict=True):
        found = doubles(reference, real)
        assert found[0].publication == one
        assert found[0].certain


# --- proposed, checked, written --------------------------------------------------------------------------------------


def test_a_title_is_found_inside_what_was_pasted(real: KB) -> None:
    title = real.publications["grad_cam_2016"].title
    (reference,) = read_references(f"Some authors and more, {title}, International Conference on Vision")
    assert [(one.publication, one.certain) for one in doubles(reference, real)] == [("grad_cam_2016", False)]


def test_a_title_that_is_nearly_the_same_is_told_as_likely(kb: KB) -> None:
    (double,) = doubles(Reference(title="A toy study of chest radiograph"), kb)
    assert (double.publication, double.certain) == ("toy_2020_cxr", False)
    assert doubles(Reference(title="Something else entirely"), kb) == []


def test_what_title_and_abstract_name_is_filled_in(real: KB) -> None:
    understood = understand(WHOLE, real)
    assert understood == Understood(
        modalities=("xray",), methods=("grad_cam", "rise"), task="classification", architecture=None, anatomy="chest"
    )
    proposal = propose(WHOLE, real, understood)
    assert proposal.id == "muller_2025_grad"
    assert "methods: [grad_cam, rise]" in proposal.yaml
    assert "compare it with" not in proposal.yaml, "the abstract is not kept"


def test_a_proposal_passes_only_when_a_person_has_completed_it(kb: KB) -> None:
    proposal = propose(WHOLE, kb, Understood(("xray",), ("grad_cam",), "classification"))
    entity, problems = checked(proposal.id, proposal.yaml, kb)
    assert entity is None
    assert len([p for p in problems if TODO in p]) == proposal.yaml.count(TODO)
    done = completed(proposal.yaml)
    assert checked(proposal.id, done, kb) == (checked(proposal.id, done, kb)[0], [])
    entity, problems = checked(proposal.id, done.replace("text: It looked", f"text: {TODO}, it looked"), kb)
    assert len(problems) == 1, "the text of a claim takes any word, and still not this one"


def completed(text: str) -> str:
    text = text.replace(f"read: {TODO}", "read: abstract").replace(f"criterion: {TODO}", "criterion: sanity")
    return text.replace(f"outcome: {TODO}", "outcome: adequate").replace(f"text: {TODO}", "text: It looked right.")


def test_the_rules_hold_for_what_comes_in(kb: KB) -> None:
    done = completed(propose(WHOLE, kb, Understood(("xray",), ("grad_cam",))).yaml)
    assert checked("toy_2020_cxr", done, kb)[1] == [
        "publications/toy_2020_cxr.yaml:1: file: toy_2020_cxr: an id that nothing has yet"
    ]
    wrong = done.replace("modalities: [xray]", "modalities: [x_ray]")
    assert "did you mean xray?" in checked("new", wrong, kb)[1][0]
    double = done.replace("10.1234/abc.(5)", "10.1234/toy.2020.1")
    assert any("one file a paper" in problem for problem in checked("new", double, kb)[1])


@pytest.mark.parametrize("name", ["../new", "methods/new", "New", ""])
def test_an_id_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    mine = load_kb(copy_toy(tmp_path))
    done = completed(propose(WHOLE, mine, Understood(("xray",), ("grad_cam",))).yaml)
    assert "an id: lower-case letters" in checked(name, done, mine)[1][0]
    with pytest.raises(KBError):
        write(name, done, mine)


def test_it_is_written_once_and_loads(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    mine = load_kb(root)
    done = completed(propose(WHOLE, mine, Understood(("xray",), ("grad_cam",))).yaml)
    with pytest.raises(KBError):
        write("new_one", done.replace("sanity", "colour"), mine)
    assert not (root / "publications/new_one.yaml").exists()
    target = write("new_one", done + "# a remark\n", mine)
    added = load_kb(root).publications["new_one"]
    assert added.title == WHOLE.title
    assert target.read_text(encoding="utf-8") == dump(added), "written like every other file"
    with pytest.raises(AtlasError, match="exists"):
        write("new_one", done, mine)


def test_every_file_is_written_as_it_would_be_again(real: KB) -> None:
    for kind, entities in real.kinds().items():
        for entity_id, entity in entities.items():
            file = real.root / kind / f"{entity_id}.yaml"
            assert file.read_text(encoding="utf-8") == dump(entity), file
