from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toykb import TOY, Mutation, appended, cases, copied, copy_toy, each, removed, replaced, written

import taxonomy
from taxonomy import KBError, UnknownIdError, documents, load_kb, loader

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XAI_ATLAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loader, "_loaded", {})
    return tmp_path / "cache"


def problems(root: Path) -> list[str]:
    with pytest.raises(KBError) as caught:
        load_kb(root)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


# --- reading ---------------------------------------------------------------------------------------------------------

RISE, CXR = "methods/rise.yaml", "publications/toy_2020_cxr.yaml"
ID_WORDS = "an id: lower-case letters, digits and single underscores, first a letter"
NAME_WORDS = "<id>.yaml, the id in lower-case letters, digits and single underscores"
KIND_WORDS = "methods, modalities, challenges, metrics, tools, publications"

BROKEN_FILES = [
    Mutation(
        "duplicate key",
        appended(RISE, "name: RISE again\n"),
        [f"{RISE}:13: name: a duplicate key: each key once; line 1 has it"],
    ),
    Mutation(
        "duplicate nested key",
        replaced(RISE, "  dims: [2, 3]\n", "  dims: [2, 3]\n  tasks: [regression]\n"),
        [f"{RISE}:7: requires.tasks: a duplicate key: each key once; line 5 has it"],
    ),
    Mutation(
        "misspelt key",
        appended(RISE, "defintion: It samples masks.\n"),
        [f"{RISE}:13: defintion: an unknown key: did you mean definition?"],
    ),
    Mutation(
        "unknown key",
        replaced(RISE, "  passes: 4000\n", "  passes: 4000\n  euros: 3\n"),
        [f"{RISE}:12: cost.euros: an unknown key: one of passes, text"],
    ),
    Mutation(
        "unknown key of a file",
        appended(CXR, "colour: red\n"),
        [
            f"{CXR}:26: colour: an unknown key: one of title, year, first_author, venue, doi, arxiv, url, read, study, "
            "methods, clinicians, readers, claims, conflicts, counts, retracted"
        ],
    ),
    Mutation(
        "unknown key in a list",
        replaced("vocabulary.yaml", "    families: [class_activation]\n", "    familys: [class_activation]\n"),
        ["vocabulary.yaml:41: goals.where.familys: an unknown key: did you mean families?"],
    ),
    Mutation(
        "missing field",
        replaced(RISE, "scope: local\n", ""),
        [f"{RISE}:1: scope: missing: this field is required; write null where it is not known and may be"],
    ),
    Mutation(
        "missing nested field",
        replaced(CXR, "  task: classification\n", ""),
        [f"{CXR}:6: study.task: missing: this field is required; write null where it is not known and may be"],
    ),
    Mutation(
        "unquoted arXiv id",
        replaced("publications/petsiuk_2018_rise.yaml", "'1806.07421'", "1806.07421"),
        [
            "publications/petsiuk_2018_rise.yaml:4: arxiv: 1806.07421 (a number): "
            'text; if it is meant as text, put it in quotes: "1806.07421"'
        ],
    ),
    Mutation(
        "unquoted version",
        replaced("tools/toy_cam.yaml", "'1.10'", "1.10"),
        ['tools/toy_cam.yaml:5: version: 1.10 (a number): text; if it is meant as text, put it in quotes: "1.10"'],
    ),
    Mutation(
        "arXiv id with a version",
        replaced("publications/petsiuk_2018_rise.yaml", "'1806.07421'", "1806.07421v2"),
        [
            "publications/petsiuk_2018_rise.yaml:4: arxiv: 1806.07421v2: "
            'an arXiv id in quotes as "1807.06420", without a version'
        ],
    ),
    Mutation(
        "DOI as an address",
        replaced(CXR, "doi: 10.1234/", "doi: https://doi.org/10.1234/"),
        [f"{CXR}:4: doi: https://doi.org/10.1234/toy.2020.1: a DOI as 10.1234/abc, without https://doi.org/"],
    ),
    Mutation(
        "address without a scheme",
        replaced("tools/captum.yaml", "https://", ""),
        ["tools/captum.yaml:3: repository: github.com/pytorch/captum: an address that begins with http:// or https://"],
    ),
    Mutation(
        "wrong word of a closed list",
        replaced(RISE, "scope: local", "scope: everywhere"),
        [f"{RISE}:8: scope: everywhere: local, global or both"],
    ),
    Mutation(
        "yes is a word",
        appended(RISE, "umbrella: yes\n"),
        [f"{RISE}:13: umbrella: yes: true or false"],
    ),
    Mutation(
        "word in place of a list",
        replaced(RISE, "aliases: [randomised input sampling]", "aliases: randomised input sampling"),
        [f"{RISE}:2: aliases: randomised input sampling: a list"],
    ),
    Mutation(
        "word in place of a mapping",
        replaced(RISE, "cost:\n  passes: 4000", "cost: dear"),
        [f"{RISE}:10: cost: dear: a mapping of fields to values"],
    ),
    Mutation(
        "text in place of a number",
        replaced(RISE, "passes: 4000", "passes: '4000'"),
        [f'{RISE}:11: cost.passes: "4000": a whole number'],
    ),
    Mutation(
        "number that is not whole",
        replaced(RISE, "passes: 4000", "passes: 4000.0"),
        [f"{RISE}:11: cost.passes: 4000.0 (a number): a whole number"],
    ),
    Mutation(
        "impossible dimension",
        replaced(RISE, "dims: [2, 3]", "dims: [2, 4]"),
        [f"{RISE}:6: requires.dims[1]: 4 (a number): 2 or 3"],
    ),
    Mutation(
        "null where text must be",
        replaced(RISE, "name: RISE", "name:"),
        [f"{RISE}:1: name: null: text"],
    ),
    Mutation(
        "empty text",
        replaced(RISE, "name: RISE", "name: ''"),
        [f'{RISE}:1: name: "": text that is not empty'],
    ),
    Mutation(
        "blank text",
        replaced(RISE, "name: RISE", "name: ' '"),
        [f'{RISE}:1: name: "": text that is not empty'],
    ),
    Mutation(
        "empty list of sources",
        replaced("challenges/overlap.yaml", "\nsources: [toy_2020_cxr]", "\nsources: []"),
        ["challenges/overlap.yaml:3: sources: an empty list: at least 1 entry"],
    ),
    Mutation(
        "name in place of an id",
        replaced(CXR, "methods: [grad_cam, grad_cam_pp, ", "methods: [Grad-CAM, grad_cam_pp, "),
        [f"{CXR}:12: methods[0]: Grad-CAM: {ID_WORDS}"],
    ),
    Mutation(
        "impossible year",
        replaced(CXR, "year: 2020", "year: 202"),
        [f"{CXR}:2: year: 202 (a number): Input should be greater than or equal to 1950"],
    ),
    Mutation(
        "default that is a list",
        replaced("methods/integrated_gradients.yaml", "default: 50", "default: [50]"),
        [
            "methods/integrated_gradients.yaml:16: hyperparameters[0].default: a list: "
            "text or a whole number or a number or true or false"
        ],
    ),
    Mutation(
        "effect of a method and a family",
        replaced("challenges/speckle.yaml", "  - method: grad_cam\n", "  - method: grad_cam\n    family: gradient\n"),
        ["challenges/speckle.yaml:5: eased_by[0]: a mapping: give exactly one of method, family and metric"],
    ),
    Mutation(
        "publication that cannot be found",
        replaced("publications/petsiuk_2018_rise.yaml", "arxiv: '1806.07421'\n", ""),
        ["publications/petsiuk_2018_rise.yaml:1: file: a mapping: a publication needs a doi, an arxiv id or a url"],
    ),
    Mutation(
        "wrong key of a closed list",
        replaced("vocabulary.yaml", "  latent: {", "  hidden: {"),
        [
            "vocabulary.yaml:4: branches.hidden: a mapping: visualization, non_visualization, latent or multimodal",
        ],
    ),
    Mutation("empty file", written(RISE, ""), [f"{RISE}:1: file: an empty file: a mapping of fields to values"]),
    Mutation(
        "only a comment",
        written(RISE, "# later\n"),
        [f"{RISE}:1: file: an empty file: a mapping of fields to values"],
    ),
    Mutation("list", written(RISE, "- a\n"), [f"{RISE}:1: file: a list: a mapping of fields to values"]),
    Mutation(
        "two documents",
        appended(RISE, "---\nname: two\n"),
        [f"{RISE}:13: file: not YAML (but found another document): one YAML document"],
    ),
    Mutation(
        "anchor and alias",
        replaced(CXR, "  - methods: [grad_cam_pp]\n", "  - methods: &same [grad_cam_pp]\n    versus: *same\n"),
        [f"{CXR}:22: claims[1].versus: an alias (*): the value itself, written out"],
    ),
    Mutation(
        "alias to itself",
        appended(RISE, "limitations: &me [*me]\n"),
        [f"{RISE}:13: limitations[0]: an alias (*): the value itself, written out"],
    ),
    Mutation(
        "Python tag",
        replaced(RISE, "name: RISE", "name: !!python/name:os.system RISE"),
        [f"{RISE}:1: name: the tag tag:yaml.org,2002:python/name:os.system: a value without a tag"],
    ),
    Mutation(
        "list as a key",
        appended(RISE, "? [a, b]\n: c\n"),
        [f"{RISE}:13: file: a list as a key: a word as a key"],
    ),
    Mutation(
        "Latin-1 text",
        written(RISE, "name: RISE\naliases: [Größe]\n".encode("latin-1")),
        [f"{RISE}:2: file: byte 0xf6: UTF-8 text"],
    ),
    Mutation(
        "id inside",
        replaced(RISE, "name: RISE", "id: rise\nname: RISE"),
        [f"{RISE}:1: id: an id: no id line: the file's name is the id"],
    ),
    Mutation(
        "file name that is no id",
        copied(RISE, "methods/RISE-2.yaml"),
        [f"methods/RISE-2.yaml:1: file: RISE-2.yaml: {NAME_WORDS}"],
    ),
    Mutation(
        "wrong suffix",
        copied(RISE, "methods/rise_2.yml"),
        [f"methods/rise_2.yml:1: file: rise_2.yml: {NAME_WORDS}"],
    ),
    Mutation(
        "folder in a folder",
        lambda root: (root / "methods/drafts.yaml").mkdir(),
        [f"methods/drafts.yaml:1: file: drafts.yaml: {NAME_WORDS}"],
    ),
    Mutation(
        "unknown folder",
        written("method/rise.yaml", "name: RISE"),
        [f"method:1: file: a folder: a folder for a kind: {KIND_WORDS}"],
    ),
    Mutation(
        "stray file",
        written("rise.yaml", "name: RISE"),
        ["rise.yaml:1: file: rise.yaml: vocabulary.yaml, about.yaml and folders of <id>.yaml"],
    ),
    Mutation(
        "no vocabulary",
        removed("vocabulary.yaml"),
        ["vocabulary.yaml:1: file: missing: a file with branches, families, tasks, …"],
    ),
]


@cases(BROKEN_FILES)
def test_a_broken_file_gives_exactly_its_message(tmp_path: Path, edit, expected: list[str]) -> None:
    root = copy_toy(tmp_path)
    edit(root)
    assert problems(root) == expected


def test_unreadable_yaml_names_its_line(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    written(RISE, "name: RISE\nfamily: [gradient\noutput: map\n")(root)
    (line,) = problems(root)
    assert line.startswith(f"{RISE}:3: file: not YAML (")
    assert line.endswith("): one YAML document")


def test_deep_nesting_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    written(RISE, "a: " + "[" * 600 + "]" * 600)(root)
    (line,) = problems(root)
    assert line.startswith(f"{RISE}:1: ")


def test_all_problems_of_all_files_come_at_once_and_sorted(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    each(
        replaced(RISE, "scope: local", "scope: everywhere"),
        replaced(RISE, "output: map", "output: maps"),
        replaced("tools/captum.yaml", "category: library", "category: 1"),
        replaced("methods/grad_cam_pp.yaml", "parent: grad_cam", "parent: grad_cm"),
        written("methods/Bad.yaml", ""),
    )(root)
    assert [line.split(": ")[0] + " " + line.split(": ")[1] for line in problems(root)] == [
        "methods/Bad.yaml:1 file",
        "methods/grad_cam_pp.yaml:3 parent",
        "methods/rise.yaml:7 output",
        "methods/rise.yaml:8 scope",
        "tools/captum.yaml:2 category",
    ]


def test_a_broken_file_is_not_blamed_on_those_that_name_it(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    appended("methods/grad_cam.yaml", "nonsense: 1\n")(root)
    assert [line.split(":")[0] for line in problems(root)] == ["methods/grad_cam.yaml"]


def test_no_folder() -> None:
    with pytest.raises(KBError, match="not a folder: give the folder that holds vocabulary.yaml"):
        load_kb(TOY / "nowhere")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("12", 12),
        ("-3", -3),
        ("1e-3", 1e-3),
        ("2.", 2.0),
        (".5", 0.5),
        # words, whatever YAML 1.1 thought
        ("yes", "yes"),
        ("No", "No"),
        ("on", "on"),
        ("2026-10-01", "2026-10-01"),
        ("12:30:00", "12:30:00"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("010", "010"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("<<", "<<"),
        ("9" * 30, "9" * 30),
        ("'12'", "12"),
        ('"true"', "true"),
    ],
)
def test_plain_values_are_read_as_yaml_1_2(text: str, value: object) -> None:
    read = documents.Document("f.yaml", f"key: {text}".encode()).value["key"]
    assert read == value
    assert type(read) is type(value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.one_of(st.binary(max_size=60), st.text("ab:-[]{}&*!|>'\"\n #?,%~0.", max_size=40).map(str.encode)))
def test_any_bytes_give_problems_and_no_other_error(content: bytes) -> None:
    value, entity, wrong = documents.read_entity("methods/any.yaml", content)
    assert entity is None
    assert wrong
    assert all(problem.line >= 1 for problem in wrong)
    assert isinstance(value, dict)


def test_without_libyaml_the_result_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    files = sorted(TOY.rglob("*.yaml"))
    contents = {str(f.relative_to(TOY)): f.read_bytes() for f in files if "_import" not in f.parts}
    fast = {name: documents.read_entity(name, content)[1] for name, content in contents.items()}
    monkeypatch.delattr(yaml, "CSafeLoader")
    try:
        importlib.reload(documents)
        assert documents._Composer.__mro__[1] is yaml.SafeLoader
        assert {name: documents.read_entity(name, content)[1] for name, content in contents.items()} == fast
    finally:
        monkeypatch.undo()
        importlib.reload(documents)


# --- the knowledge base ----------------------------------------------------------------------------------------------


def test_the_toy_loads() -> None:
    kb = load_kb(TOY)
    assert {kind: len(entities) for kind, entities in kb.kinds().items()} == {
        "methods": 6,
        "modalities": 3,
        "challenges": 3,
        "metrics": 2,
        "tools": 2,
        "publications": 8,
    }
    assert kb.methods["rise"].id == "rise"
    assert kb.methods["integrated_gradients"].hyperparameters[2].default == 1e-3
    assert kb.modalities["xray"].translations["de"] == ["Röntgen", "Röntgenbild"]
    assert taxonomy.check(kb) == kb.problems() == []


def test_ids_lead_to_entities_kinds_and_branches() -> None:
    kb = load_kb(TOY)
    assert kb.get("grad_cam").name == "Grad-CAM"
    assert kb.get("toy_2020_cxr").name == "A toy study of chest radiographs"
    assert (kb.kind("speckle"), kb.kind("captum")) == ("challenges", "tools")
    assert kb.branch("integrated_gradients") == "visualization"


@pytest.mark.parametrize("ask", [lambda kb, i: kb.get(i), lambda kb, i: kb.kind(i), lambda kb, i: kb.branch(i)])
def test_an_unknown_id_names_the_nearest(ask) -> None:
    with pytest.raises(UnknownIdError, match="'grad_cams': did you mean grad_cam"):
        ask(load_kb(TOY), "grad_cams")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("grad_cam", "grad_cam"),
        ("Grad CAM", "grad_cam"),
        ("gradcam++", "grad_cam_pp"),
        ("IG", "integrated_gradients"),
        ("röntgen", "xray"),
        ("CXR", "xray"),
        ("A toy study of speckle", "toy_2021_speckle"),
    ],
)
def test_names_and_aliases_are_found(text: str, found: str) -> None:
    assert load_kb(TOY).find_by_name(text) == found


def test_a_name_of_another_kind_is_not_found() -> None:
    kb = load_kb(TOY)
    assert kb.find_by_name("ultrasound", "modalities") == "ultrasound"
    with pytest.raises(UnknownIdError, match="unknown methods 'ultrasound'"):
        kb.find_by_name("ultrasound", "methods")


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownIdError, match="grad_cam"):
        load_kb(TOY).find_by_name("grad kam")


def test_a_name_of_two_entities_names_both(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    replaced("tools/toy_cam.yaml", "name: Toy CAM", "name: RISE")(root)
    kb = load_kb(root)
    assert kb.find_by_name("rise") == "rise"  # an id is itself
    with pytest.raises(UnknownIdError) as caught:
        kb.find_by_name("R.I.S.E".replace(".", " "))
    assert "rise" in str(caught.value)
    assert "toy_cam" in str(caught.value)
    assert kb.find_by_name("RISE", "tools") == "toy_cam"


def test_entities_are_frozen() -> None:
    with pytest.raises(pydantic.ValidationError):
        load_kb(TOY).methods["rise"].name = "other"


# --- the cache -------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_parsing(monkeypatch: pytest.MonkeyPatch):
    """Call it to make every further parse fail."""

    def forbid() -> None:
        def refuse(file: str, _content: bytes) -> None:
            raise AssertionError(f"{file} was parsed")

        monkeypatch.setattr(documents, "read_entity", refuse)
        loader._loaded.clear()

    return forbid


def test_the_cache_gives_the_same_without_parsing(no_parsing) -> None:
    parsed = load_kb(TOY)
    no_parsing()
    cached = load_kb(TOY)
    assert cached is not parsed
    assert cached.kinds() == parsed.kinds()
    assert cached.vocabulary == parsed.vocabulary


def test_the_same_content_gives_the_same_object() -> None:
    assert load_kb(TOY) is load_kb(str(TOY))


def test_no_parsing_is_seen_red(no_parsing) -> None:
    no_parsing()
    with pytest.raises(AssertionError, match="was parsed"):
        load_kb(TOY)


def test_an_edit_that_keeps_size_and_time_is_seen(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    assert load_kb(root).methods["rise"].name == "RISE"
    before = (root / RISE).stat()
    replaced(RISE, "name: RISE", "name: RICE")(root)
    os.utime(root / RISE, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (root / RISE).stat().st_size == before.st_size
    assert load_kb(root).methods["rise"].name == "RICE"


def test_added_renamed_and_removed_files_are_seen(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    load_kb(root)
    copied("tools/captum.yaml", "tools/captum_2.yaml")(root)
    assert "captum_2" in load_kb(root).tools
    (root / "tools/captum_2.yaml").rename(root / "tools/captum_3.yaml")
    assert set(load_kb(root).tools) == {"captum", "captum_3", "toy_cam"}
    removed("tools/captum_3.yaml")(root)
    assert set(load_kb(root).tools) == {"captum", "toy_cam"}


def test_a_break_after_a_good_load_is_seen(tmp_path: Path) -> None:
    root = copy_toy(tmp_path)
    load_kb(root)
    written("methods/Bad.yaml", "")(root)
    assert len(problems(root)) == 1
    removed("methods/Bad.yaml")(root)
    load_kb(root)


def test_the_cache_is_one_json_file_a_folder(tmp_path: Path, cache: Path) -> None:
    root = copy_toy(tmp_path)
    for name in ("RICE", "RIDE"):
        load_kb(root)
        (root / RISE).write_text((root / RISE).read_text().replace("name: RISE", f"name: {name}"))
    load_kb(root)
    (file,) = cache.iterdir()
    json.loads(file.read_text(encoding="utf-8").split("\n", 1)[1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: "",
        lambda text: text[:-100],
        lambda text: text.replace('"name":"RISE"', '"name":12'),
        lambda text: text.replace('"scope":"local"', '"scope":"nowhere"', 1),
        lambda text: "0" * 64 + text[64:],
    ],
)
def test_a_damaged_cache_is_read_anew(cache: Path, damage) -> None:
    parsed = load_kb(TOY)
    (file,) = cache.iterdir()
    text = file.read_text(encoding="utf-8")
    assert damage(text) != text
    file.write_text(damage(text), encoding="utf-8")
    loader._loaded.clear()
    assert load_kb(TOY).kinds() == parsed.kinds()
    assert file.read_text(encoding="utf-8") == text


def test_a_cache_that_cannot_be_written_does_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XAI_ATLAS_CACHE", str(blocked))
    assert load_kb(TOY).problems() == []
    assert blocked.read_text() == "in the way"


def test_a_write_that_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: str) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    load_kb(TOY)
    assert list(cache.iterdir()) == []


def test_another_schema_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = loader._key({})
    changed = tmp_path / "schema.py"
    changed.write_bytes(Path(loader.schema.__file__).read_bytes() + b"\n")
    monkeypatch.setattr(loader.schema, "__file__", str(changed))
    assert loader._key({}) != before


def test_the_key_tells_names_from_contents() -> None:
    keys = {loader._key({"a": b"bc"}), loader._key({"ab": b"c"}), loader._key({"a": b"b", "c": b""})}
    assert len(keys) == 3


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XAI_ATLAS_CACHE")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert loader.cache_folder() == Path("/x/xai-atlas")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert loader.cache_folder() == Path("/home/somebody/.cache/xai-atlas")


# --- what is imported ------------------------------------------------------------------------------------------------


def imported_after(code: str) -> set[str]:
    program = f"import sys; {code}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_importing_and_loading_stay_light() -> None:
    load_kb(TOY)  # fills the cache
    heavy = {"torch", "networkx", "yaml", "numpy"}
    assert not imported_after(f"import taxonomy; taxonomy.load_kb({str(TOY)!r}).index") & heavy


def test_light_is_seen_red() -> None:
    assert {"networkx"} <= imported_after(f"import taxonomy; taxonomy.load_kb({str(TOY)!r}).graph")


def test_the_benchmark_runs_on_a_small_size() -> None:
    script = [sys.executable, "benchmarks/load_kb.py", "--methods", "6", "--publications", "12", "--rounds", "1"]
    run = subprocess.run([*script, "--limit", "5000"], cwd=REPOSITORY, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "fresh process" in run.stdout
