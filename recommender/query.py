"""Read a question: names, aliases and translations of the knowledge base, with typos, negation and five languages.

Nothing is guessed: a word is a name, close enough to exactly one name, a word of plain language, or it is listed as not
understood. Every field keeps the words it was read from.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, NamedTuple
from weakref import WeakKeyDictionary

from recommender import words
from recommender.lookalikes import LOOKALIKES
from taxonomy import KB

Dimension = Literal["2d", "3d"]

Asks = Literal["recommend", "compare", "judge"]

_TOKEN = re.compile(r"\+\+|×|[a-z]+n['’]t\b|\b[a-z] ?& ?[a-z]\b|\b(?:e\.g|i\.e)\b|[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")
_GLUE = re.compile(r"[\s\-‐‑–—_/'’·^*]*|\.")
"""What may stand between the words of one name."""
_SENTENCE = re.compile(r"[,;:.!?()\[\]，。；：！？、（）]")
_CJK = re.compile(r"[\u3400-\u9fff]")
BETWEEN_ORGANS = re.compile(r"[;,()/]|\band\b")
"""What stands between the organs of one study."""
_DOUBLE = re.compile(r"(.)\1+")
_WIDEST = 12
_VERSION = re.compile(r"(?<=[a-z]{3})(?:v?\d+[a-z]?|b\d)$")
"""What stands at the end of "ResNet50", "YOLOv8n" and "EfficientNetB4"."""
_SIZE = re.compile(r"[a-z]?\d{1,3}[a-z]?|tiny|small|base|large|huge|nano|[tsblhgnmx]")
"""What may follow the name of a network: "ViT-B/16", "DeiT-small", "YOLO v8"."""
_ENDING_PAIRS = """
    ies>y scopic>scopy scopical>scopy graphic>graphy graphical>graphy graphically>graphy logic>logy logical>logy
    logically>logy gram>graphy grams>graphy graph>graphy graphs>graphy ers>er isation>ization ization>isation
    isations>ization es> s> x> en> n> e> er> em>
"""
_ENDINGS = tuple(pair.split(">") for pair in _ENDING_PAIRS.split())
"""Plural, adjective and case endings, tried in this order when the word itself is no name."""
_COMPOUND = words.SUPPORT | {"bildern", "aufnahme", "daten", "modell", "modelle", "netz"}
"""Second halves of German compounds that are no names."""


@dataclass(frozen=True)
class Query:
    """What a question says. Ids are those of the knowledge base; what is not said is None or empty.

    Attributes:
        text: The question as asked.
        modality: Modality ids; from anatomy or disease words when "modality" is in ``implied``.
        task: Task id.
        architecture: Architecture id.
        dimension: "2d" or "3d".
        access: "black_box" when only inputs and outputs of the model can be reached.
        audience: Audience id.
        goal: Goal id.
        budget: Seconds one explanation may take.
        methods: Methods that are named, umbrellas included.
        unmatched: Content words that were not understood, as typed.
        spans: Field to the words it was read from, as typed, joined by ", ".
        implied: Fields that follow from other words ("polyp" for endoscopy) instead of being named.
        excluded: Methods, families and modalities that the asker does not want.
        families: Families of methods that are named.
        criteria: Qualities of an explanation that are named.
        others: Challenges, metrics and tools that are named.
        anatomy: Anatomy words as the studies write them.
        has: Needs that the asker says are at hand.
        lacks: Needs that the asker says are not.
        intrinsic: The asker would build the explanation into the model.
        corrections: Words as typed to the words they were taken for.
        asks: "compare" when methods are named as alternatives, "judge" when the question is whether one named method is
            any good, else "recommend".
    """

    text: str = ""
    modality: tuple[str, ...] = ()
    task: str | None = None
    architecture: str | None = None
    dimension: Dimension | None = None
    access: Literal["black_box"] | None = None
    audience: str | None = None
    goal: str | None = None
    budget: float | None = None
    methods: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()
    spans: Mapping[str, str] = field(default_factory=dict)
    implied: frozenset[str] = frozenset()
    excluded: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    criteria: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    anatomy: tuple[str, ...] = ()
    has: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    intrinsic: bool = False
    corrections: Mapping[str, str] = field(default_factory=dict)
    asks: Asks = "recommend"
    on_topic: bool = True
    """False when nothing but loose words was understood and nothing speaks of models or explanations."""

    @property
    def empty(self) -> bool:
        """True when nothing was understood that a recommendation could rest on."""
        strong = self.modality if "modality" not in self.implied else ()
        if strong or self.task or self.architecture or self.access or self.methods or self.families:
            return False
        if self.modality and self.goal and "goal" not in self.implied:
            return False  # "similar cases for a skin lesion": two hints that agree
        weak = (
            self.modality or self.dimension or self.audience or self.goal or self.budget or self.criteria or self.others
        )
        return not (weak and self.on_topic)

    def as_json(self) -> dict[str, Any]:
        """Return the public form: the keys of the interface, and ``implied`` and ``excluded``."""
        return {
            "modality": list(self.modality),
            "task": self.task,
            "architecture": self.architecture,
            "dimension": self.dimension,
            "access": self.access,
            "audience": self.audience,
            "goal": self.goal,
            "budget": self.budget,
            "methods": list(self.methods),
            "unmatched": list(self.unmatched),
            "spans": dict(self.spans),
            "implied": sorted(self.implied),
            "excluded": list(self.excluded),
            "asks": self.asks,
        }


def parse(text: str, kb: KB) -> Query:
    """Read a question.

    Args:
        text: The question in English, German, French, Spanish or Chinese, or any mixture.
        kb: The knowledge base that owns the names.

    Returns:
        What was understood; see :class:`Query`.
    """
    lexicon = _lexicon(kb)
    text = unicodedata.normalize("NFKC", text)
    reader = _Reader(text, lexicon)
    reader.read()
    return reader.query()


# --- names -----------------------------------------------------------------------------------------------------------


class _Name(NamedTuple):
    """What a name stands for."""

    kind: str
    id: str
    exact: bool
    """True for the name or the id itself, False for an alias."""


@dataclass
class _Lexicon:
    """Everything the parser needs of a knowledge base, precomputed."""

    names: dict[str, list[_Name]] = field(default_factory=dict)
    """Joined folded words to what they stand for."""
    parts: set[str] = field(default_factory=set)
    """Single words of names."""
    known: set[str] = field(default_factory=set)
    """Words of plain language and of the knowledge base's own prose: never taken for typos."""
    by_length: dict[tuple[int, str], list[tuple[str, int]]] = field(default_factory=dict)
    """Candidates for typos with their letter sets, by length and first letter."""
    ordered: list[str] = field(default_factory=list)
    """All that windows of words are looked up for, sorted."""
    goal_ids: frozenset[str] = frozenset()
    goals: dict[str, str] = field(default_factory=dict)
    """Family, or umbrella of one, to the goal that it serves before all."""

    def add(self, name: str, kind: str, entity: str, exact: bool = False) -> None:
        """Enter a name; of "CAM (class activation mapping)" the part before the bracket."""
        name, bracket, _ = name.partition(" (")
        exact = exact and not bracket
        tokens = [t for t, _, _ in _tokens(name)]
        if not tokens:
            return
        spellings = {tuple(tokens), tuple(t for t, _, _ in _tokens(_umlauts(name)))}
        if len(tokens) > 1 and tokens[-1] in ("network", "networks"):  # "graph neural net"
            spellings.add((*tokens[:-1], tokens[-1].replace("network", "net")))
        if exact and len(tokens[-1]) > 4 and tokens[-1][-1] == "s" and tokens[-1][-2] != "s":
            spellings.add((*tokens[:-1], tokens[-1][:-1]))
        for spelt in spellings:
            key = "".join(spelt)
            if len(key) < 2 and not _CJK.match(key):
                continue
            if len(spelt) == 1 and kind not in ("method", "modality", "task", "implied") and key in words.STOP:
                continue
            entry = _Name(kind, entity, exact)
            entries = self.names.setdefault(key, [])
            same = [e for e in entries if e[:2] == entry[:2]]
            if kind == "other" and any(e.kind == "method" for e in entries):
                continue  # a package that is called like its method
            if not same:
                entries.append(entry)
            elif exact and not same[0].exact:
                entries[entries.index(same[0])] = entry
            self.parts.update(t for t in spelt if not _CJK.match(t))

    def find(self, key: str, last: str) -> list[_Name]:
        """Return what a joined name stands for, its last word as it is or without an ending."""
        if key in self.names:
            return self.names[key]
        for stem in _stems(last):
            found = self.names.get(key[: len(key) - len(last)] + stem)
            if found:
                return found
        plain = _VERSION.sub("", key)
        return [n for n in self.names.get(plain, ()) if n.kind == "architecture"] if plain != key else []

    def begins(self, start: str) -> bool:
        """True when a name starts so."""
        at = bisect_left(self.ordered, start)
        return at < len(self.ordered) and self.ordered[at].startswith(start)

    def pair(self, name: str) -> None:
        """Let "PET/CT" mean both, when both are modalities of their own."""
        parts = re.split(r"[ /-]", name)
        if len(parts) != 2 or not all(map(str.isupper, parts)):
            return
        both = [[n for n in self.names.get(part.lower(), ()) if n.kind == "modality"] for part in parts]
        if all(both):
            self.names["".join(parts).lower()] = [both[0][0]._replace(exact=False), both[1][0]._replace(exact=False)]


_LEXICONS: WeakKeyDictionary[KB, _Lexicon] = WeakKeyDictionary()


def _lexicon(kb: KB) -> _Lexicon:
    if kb not in _LEXICONS:
        _LEXICONS[kb] = _build(kb)
    return _LEXICONS[kb]


def _build(kb: KB) -> _Lexicon:
    lexicon = _Lexicon()
    vocabulary = kb.vocabulary
    lists: list[tuple[str, Mapping[Any, Any]]] = [
        ("method", kb.methods),
        ("modality", kb.modalities),
        ("other", kb.challenges),
        ("other", kb.metrics),
        ("other", kb.tools),
        ("task", vocabulary.tasks),
        ("architecture", vocabulary.architectures),
        ("audience", vocabulary.audiences),
        ("goal", vocabulary.goals),
        ("family", vocabulary.families),
        ("criterion", vocabulary.criteria),
        ("need", vocabulary.needs),
    ]
    for kind, entities in lists:
        for entity_id, entity in entities.items():
            lexicon.add(entity.name, kind, entity_id, exact=True)
            if kind in ("method", "modality", "other"):  # those of the vocabulary are plain words: "other", "text"
                lexicon.add(entity_id, kind, entity_id, exact=True)
            for name in (*entity.aliases, *sum(getattr(entity, "translations", {}).values(), [])):
                lexicon.add(name, kind, entity_id)
                head, _, tail = name.rpartition(" ")
                if kind == "modality" and tail in ("image", "scan") and len(head) < 4 and head.isupper():
                    lexicon.add(head, kind, entity_id)  # "US image": "US" is ultrasound where it is no other word
            for name in getattr(entity, "implied_by", ()):
                lexicon.add(name, "implied", entity_id)
    for modality in kb.modalities.values():
        for name in (*modality.aliases, *sum(modality.translations.values(), [])):
            lexicon.pair(name)
    for publication in kb.publications.values():
        if publication.study and publication.study.anatomy:
            for part in BETWEEN_ORGANS.split(publication.study.anatomy):
                key = "".join(t for t, _, _ in _tokens(part))
                taken = {n.kind for n in lexicon.names.get(key, ())} - {"implied", "anatomy"}
                if key and not taken and not any(map(str.isdigit, key)):
                    lexicon.add(part.strip(), "anatomy", _fold(part.strip()))
    for phrases, kind in ((words.BLACK_BOX, "access"), (words.INSIDES, "inside"), (words.INTRINSIC, "intrinsic")):
        for phrase in phrases:
            lexicon.names.setdefault(phrase, []).append(_Name(kind, "black_box", False))
    for dimension, phrases in words.DIMENSIONS.items():
        for phrase in phrases:
            lexicon.names.setdefault(phrase, []).append(_Name("dimension", dimension, False))
    for limit, phrases in words.BUDGETS.items():
        for phrase in phrases:
            lexicon.names.setdefault(phrase, []).append(_Name("budget", str(limit), False))
    # "saliency map" is what people call any heatmap, not the wish for one family
    for phrase in ("saliency", "saliencymap", "saliencymaps"):
        lexicon.names[phrase] = [_Name("goal", "where", False)] if "where" in vocabulary.goals else []
    lexicon.goal_ids = frozenset(vocabulary.goals)
    for goal_id, goal in vocabulary.goals.items():
        if goal.families and len(goal.outputs) < 3:
            lexicon.goals.setdefault(goal.families[0], goal_id)
    for method_id, method in kb.methods.items():
        if method.umbrella and method.family in lexicon.goals:
            lexicon.goals[method_id] = lexicon.goals[method.family]
    lexicon.known |= words.STOP | words.NOT | LOOKALIKES | _prose(kb)
    candidates = lexicon.names.keys() | {p for p in lexicon.parts if len(p) > 4} | {w for w in words.STOP if len(w) > 5}
    for candidate in sorted(candidates):
        if len(candidate) > 3 and not _CJK.search(candidate):
            lexicon.by_length.setdefault((len(candidate), candidate[0]), []).append((candidate, _letters(candidate)))
    lexicon.ordered = sorted({*lexicon.names, *words.NOT_NEGATING, *words.NO_NAMES})
    return lexicon


def _prose(kb: KB) -> set[str]:
    """The words of the knowledge base's own sentences."""
    texts: list[str] = []
    for method in kb.methods.values():
        texts += [method.definition or "", *(s.text for s in (*method.strengths, *method.limitations))]
    texts += [modality.definition for modality in kb.modalities.values()]
    texts += [challenge.definition for challenge in kb.challenges.values()]
    texts += [metric.definition for metric in kb.metrics.values()]
    for publication in kb.publications.values():
        texts += [publication.title, *(claim.text for claim in publication.claims)]
    return set(re.findall(r"[a-z]{4,}", _fold("\n".join(texts))))


@lru_cache(maxsize=1 << 14)
def _base(char: str) -> str:
    plain = unicodedata.normalize("NFKD", char)[0].lower()
    return plain if len(plain) == 1 else char


def _fold(text: str) -> str:
    """Lower case without diacritics, of the same length."""
    return "".join(map(_base, text))


def _umlauts(text: str) -> str:
    """The German way to write umlauts without them."""
    for umlaut, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("Ä", "Ae"), ("Ö", "Oe"), ("Ü", "Ue"), ("ß", "ss")):
        text = text.replace(umlaut, plain)
    return text


def _tokens(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield folded words with their places; a Chinese character is a word."""
    for match in _TOKEN.finditer(_fold(text)):
        word = match[0].replace("'", "").replace("’", "").replace("ß", "ss")
        word = word.replace("&", "and").replace(" ", "")
        yield {"++": "pp", "×": "x"}.get(word, word), match.start(), match.end()


@lru_cache(maxsize=4096)
def _stems(word: str) -> tuple[str, ...]:
    found = []
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and (len(ending) > 1 or len(word) > 3):
            found.append(word[: -len(ending)] + instead)
    return tuple(found)


def _letters(word: str) -> int:
    mask = 0
    for char in word:
        mask |= 1 << (ord(char) & 31)
    return mask


def _distance(a: str, b: str, limit: int) -> int:
    """Return the edit distance (insert, delete, replace, swap neighbours), or ``limit + 1`` when it is larger."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, before, row = before, row, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
    return min(row[-1], limit + 1)


def _tolerance(word: str) -> int:
    """Edits that a typo of this word may have."""
    return 0 if len(word) < 5 else 1 if len(word) < 8 else 2


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass
class _Token:
    word: str
    """As looked up: folded, a typo corrected."""
    start: int
    end: int
    typed: str
    corrected: bool = False
    used: bool = False


@dataclass
class _Match:
    first: int
    last: int
    """Token after the last."""
    names: list[_Name]
    negated: bool = False
    possessed: bool = False
    cue: int | None = None
    """First word of the cue that governs it."""


class _Reader:
    """One reading of one question."""

    def __init__(self, text: str, lexicon: _Lexicon) -> None:
        self.text = text
        self.lexicon = lexicon
        self.shouting = sum(map(str.isupper, text)) > 12 and not any(map(str.islower, text))
        self.tokens: list[_Token] = []
        for word, start, end in _tokens(text):
            self.tokens += self._split(_Token(word, start, end, text[start:end]))
        self.matches: list[_Match] = []
        self.spans: dict[str, list[tuple[int, str]]] = {}
        self.corrections: dict[str, str] = {}

    def read(self) -> None:
        """Fill ``matches``: fixed phrases, names, then cues of negation and possession."""
        self._budget()
        self._only_outputs()
        self._correct()
        self._correct_joined()
        self._quiet_phrases()
        self._names()
        self._sizes()
        self._govern(words.NOT, "negated")
        self._govern(words.HAVE, "possessed")
        self._available()
        self._refuse()
        self._replace()
        self._goal_cues()

    def _split(self, token: _Token) -> list[_Token]:
        """Split a German compound, or words written together, into known parts."""
        word = token.word
        if len(word) < 8 or _CJK.match(word) or not self._unknown(word):
            return [token]
        for cut in range(len(word) - 3, 3, -1):
            left, right = word[:cut], word[cut:]
            heads = [stem for stem in (left, *_stems(left)) if stem in self.lexicon.names]
            if (
                heads
                and len(heads[0]) > 3
                and (right in _COMPOUND or (len(right) > 4 and self.lexicon.find(right, right)))
            ):
                middle = token.start + cut
                return [
                    _Token(heads[0], token.start, middle, token.typed[:cut]),
                    _Token(right, middle, token.end, token.typed[cut:]),
                ]
        return [token]

    def _unknown(self, word: str) -> bool:
        lexicon = self.lexicon
        if word in lexicon.known or word in lexicon.parts or lexicon.find(word, word):
            return False
        return not any(stem in lexicon.parts or stem in lexicon.known for stem in _stems(word))

    def _key(self, first: int, last: int) -> str | None:
        """The joined words of a window, or None where punctuation or a used word lies inside."""
        for i in range(first, last):
            token = self.tokens[i]
            if token.used or (i > first and not _GLUE.fullmatch(self.text[self.tokens[i - 1].end : token.start])):
                return None
        return "".join(t.word for t in self.tokens[first:last])

    def _windows(self, widest: int = _WIDEST) -> Iterator[tuple[int, int, str]]:
        """Yield the windows of words that may be a name, the widest first."""
        by_width: dict[int, list[int]] = {}
        for first in range(len(self.tokens)):
            start = singular = ""
            for last in range(first + 1, min(first + widest, len(self.tokens)) + 1):
                token = self.tokens[last - 1]
                if start and not _GLUE.fullmatch(self.text[self.tokens[last - 2].end : token.start]):
                    break
                by_width.setdefault(last - first, []).append(first)
                start, singular = start + token.word, singular + token.word.removesuffix("s")
                if not (self.lexicon.begins(start) or self.lexicon.begins(singular)):
                    break  # no name goes on like this; the last word itself may have an ending
        for width in sorted(by_width, reverse=True):
            for first in by_width[width]:
                key = self._key(first, first + width)
                if key is not None:
                    yield first, first + width, key

    def _use(self, first: int, last: int) -> None:
        for token in self.tokens[first:last]:
            token.used = True

    def _typed(self, first: int, last: int) -> str:
        return self.text[self.tokens[first].start : self.tokens[last - 1].end]

    def _span(self, name: str, first: int, last: int) -> None:
        self.spans.setdefault(name, []).append((self.tokens[first].start, self._typed(first, last)))

    def _regex(self, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], int, int]]:
        for match in pattern.finditer(_fold(self.text)):
            inside = [
                i for i, t in enumerate(self.tokens) if t.start < match.end() and t.end > match.start() and not t.used
            ]
            if inside:
                yield match, inside[0], inside[-1] + 1

    def _budget(self) -> None:
        self.budget: float | None = None
        for pattern in words.BUDGET:
            for match, first, last in self._regex(pattern):
                if self.budget is None:
                    self.budget = words.seconds(match[1], match[2])
                    self._span("budget", first, last)
                self._use(first, last)

    def _only_outputs(self) -> None:
        self.only_outputs = False
        for _, first, last in self._regex(words.ONLY_OUTPUTS):
            self.only_outputs = True
            self._span("access", first, last)
            self._use(first, last)

    def _correct(self) -> None:
        """Replace words that are close to exactly one word of a name."""
        named: set[int] = set()  # "boîte noire" is no typo
        for first, last, key in self._windows(widest=4):
            if last - first > 1 and key in self.lexicon.names:
                named.update(range(first, last))
        for i, token in enumerate(self.tokens):
            limit = _tolerance(token.word)
            if (
                token.used
                or i in named
                or not limit
                or _CJK.match(token.word)
                or not token.word.isalpha()
                or not self._unknown(token.word)
            ):
                continue
            if token.typed.isupper() and len(token.typed) < 7 and not self.shouting:
                continue  # an abbreviation is a name of its own
            best = self._nearest(token.word, limit)
            if best:
                token.word, token.corrected = best, True

    def _nearest(self, word: str, limit: int) -> str | None:
        mask, found, least = _letters(word), list[str](), limit + 1
        for length in range(len(word) - limit, len(word) + limit + 1):
            # a typo rarely hits the first letter, and most lookalikes differ there
            for candidate, letters in self.lexicon.by_length.get((length, word[0]), ()):
                if (mask ^ letters).bit_count() > 2 * limit or _tolerance(candidate) < 1:
                    continue
                distance = _distance(word, candidate, min(least, limit))
                if distance < least:
                    found, least = [candidate], distance
                elif distance == least <= limit:
                    found.append(candidate)
        if len(found) > 1:  # a letter typed twice
            found = [w for w in found if _DOUBLE.sub(r"\1", w) == _DOUBLE.sub(r"\1", word)] or found
        if len(found) > 1:  # forms of one word, or names of one thing, are no doubt
            meaning = {w: {n[:2]: n.exact for n in self.lexicon.find(w, w)} for w in found}
            found.sort(key=lambda w: (True not in meaning[w].values(), len(w), w))
            forms = all(w == found[0] or found[0] in _stems(w) for w in found)
            if not forms and not (
                meaning[found[0]] and all(meaning[w].keys() == meaning[found[0]].keys() for w in found)
            ):
                return None
        return found[0] if found else None

    def _correct_joined(self) -> None:
        """Correct names of several words as one, such as "grad-camm"."""
        for width in (3, 2):
            for first in range(len(self.tokens) - width, -1, -1):
                window = self.tokens[first : first + width]
                if first + width > len(self.tokens):  # a correction before made it shorter
                    continue
                key = self._key(first, first + width)
                if key is None or not key.isalpha() or _CJK.search(key) or not _tolerance(key):
                    continue
                known = [t.word in self.lexicon.parts for t in window]
                if any(t.corrected or t.word in words.STOP for t in window) or all(known) or not any(known):
                    continue
                limit = _tolerance(key)
                if not any(self._unknown(t.word) for t in window):
                    if not any(t.word in LOOKALIKES for t in window):
                        continue
                    limit = 1  # "shapely values": a word of its own, but not beside that one
                best = self._nearest(key, limit)
                if best and best in self.lexicon.names:
                    start, end = window[0].start, window[-1].end
                    self.tokens[first : first + width] = [
                        _Token(best, start, end, self.text[start:end], corrected=True)
                    ]

    def _quiet_phrases(self) -> None:
        for first, last, key in self._windows():
            if key in words.NOT_NEGATING or key in words.NO_NAMES:
                self._use(first, last)

    def _names(self) -> None:
        doubtful: list[_Match] = []
        for first, last, key in self._windows():
            if self._key(first, last) is None:  # used by a wider name meanwhile
                continue
            names = self.lexicon.find(key, self.tokens[last - 1].word) or self._plural(first, last)
            if not names or (last - first == 1 and key == "where"):
                continue
            match = _Match(first, last, names)
            if last - first == 1 and not self._capitals(first) and words.NAMES_THAT_ARE_WORDS & {key, *_stems(key)}:
                doubtful.append(match)
                continue
            if key in words.ADDRESSED and not self._addressed(first, last):
                continue
            self._accept(match)
            self._inside(match)
        for match in doubtful:
            if self._supported(match):
                self._accept(match)
        self.matches.sort(key=lambda m: m.first)

    def _plural(self, first: int, last: int) -> list[_Name]:
        """The names of words that are all in the plural, as in "lames virtuelles"."""
        inner = [t.word for t in self.tokens[first:last]]
        if not 1 < len(inner) < 5 or sum(word[-1] == "s" for word in inner) < 2:
            return []
        return self.lexicon.names.get("".join(word.removesuffix("s") for word in inner), [])

    def _addressed(self, first: int, last: int) -> bool:
        """True for "for the patients" and "patients understand it", not for "images of patients"."""
        before = first - 1
        while before > 0 and self.tokens[before].word in words.ARTICLES - words.ADDRESSING:
            before -= 1
        after = "".join(t.word for t in self.tokens[last : last + 4])
        return (before >= 0 and self.tokens[before].word in words.ADDRESSING) or bool(words.PEOPLE_DO.match(after))

    def _sizes(self) -> None:
        """Take "B/16" as part of "ViT-B/16"."""
        for match in self.matches:
            if not any(n.kind == "architecture" for n in match.names):
                continue
            for i in range(match.last, min(match.last + 2, len(self.tokens))):
                token = self.tokens[i]
                between = self.text[self.tokens[i - 1].end : token.start]
                if token.used or not _SIZE.fullmatch(token.word) or not re.fullmatch(r"[-/ ]?", between):
                    break
                token.used = True

    def _inside(self, outer: _Match) -> None:
        """Keep what a long name says beside itself: "which MRI sequence" the modality, "brain MRI" the organ."""
        kinds = {"anatomy"} if any(n.kind != "goal" for n in outer.names) else {"anatomy", "modality", "dimension"}
        for first in range(outer.first, outer.last):
            for last in range(outer.last, first, -1):
                if last - first < outer.last - outer.first:
                    key = "".join(t.word for t in self.tokens[first:last])
                    names = [n for n in self.lexicon.find(key, self.tokens[last - 1].word) if n.kind in kinds]
                    if names and key not in words.NAMES_THAT_ARE_WORDS:
                        self.matches.append(_Match(first, last, names))
                        break

    def _accept(self, match: _Match) -> None:
        self.matches.append(match)
        self._use(match.first, match.last)
        for token in self.tokens[match.first : match.last]:
            if token.corrected:
                self.corrections[token.typed] = token.word

    def _capitals(self, i: int) -> bool:
        """True for "US" but not for "us", "Us", "in the US" or a question all in capitals."""
        token = self.tokens[i]
        after = self.tokens[i + 1].word if i + 1 < len(self.tokens) else ""
        if sum(map(str.isupper, token.typed)) < 2 or self.shouting:  # "DiCE", "WSIs"
            return False
        country = token.word == "us" and i > 0 and self.tokens[i - 1].word == "the" and not self._content(after)
        return not (country or (token.word == "us" and after in ("fda", "hospital", "hospitals", "patients")))

    def _content(self, word: str) -> bool:
        return word in words.SUPPORT or bool(self.lexicon.find(word, word))

    def _supported(self, match: _Match) -> bool:
        """A short name in lower case counts before "images", a task or a model, or in a row with names of its kind."""
        if self.tokens[match.first].word in ("scanner", "scanners"):  # French for CT, English for any machine
            return match.first > 0 and self.tokens[match.first - 1].word in words.FRENCH_ARTICLES
        if match.last == len(self.tokens) == 1 and self.tokens[0].typed.istitle():
            return True  # "Anchors", and nothing else
        after = self.tokens[match.last] if match.last < len(self.tokens) else None
        kinds = {n.kind for n in match.names}
        if after and "modality" in kinds and _GLUE.fullmatch(self.text[self.tokens[match.last - 1].end : after.start]):
            names = self.lexicon.find(after.word, after.word)
            if after.word in words.SUPPORT or any(n.kind in ("task", "architecture", "modality") for n in names):
                return True
        for other in self.matches:
            between = (
                self.tokens[other.last : match.first]
                if other.first < match.first
                else self.tokens[match.last : other.first]
            )
            joined = (
                all(t.word in words.AND or t.word in ("vs", "versus", "than") for t in between) and len(between) <= 1
            )
            if joined and kinds & {n.kind for n in other.names}:
                return True
        return False

    def _govern(self, cues: frozenset[str], mark: str) -> None:
        """Mark the names that a cue such as "not" or "I have" speaks of."""
        at = {m.first: m for m in self.matches}
        covered = {i for m in self.matches for i in range(m.first, m.last)}
        done: set[int] = set()
        for width in (4, 3, 2, 1):
            for first in range(len(self.tokens) - width + 1):
                span = range(first, first + width)
                if covered & set(span) or done & set(span) or "".join(self.tokens[i].word for i in span) not in cues:
                    continue
                if any(self.tokens[i].used for i in span):  # inside a phrase that does not negate
                    continue
                done |= set(span)
                self._follow(first, first + width, at, mark)

    def _available(self) -> None:
        """Read "gradients are (not) available", which speaks of the name before it."""
        for match in self.matches:
            after = [t.word for t in self.tokens[match.last : match.last + 4]]
            cut = next((i for i, word in enumerate(after) if word in words.AVAILABLE), None)
            if cut is None or not all(word in words.FILL or word in words.NOT for word in after[:cut]):
                continue
            if any(word in words.NOT for word in after[:cut]) or after[cut] in words.UNAVAILABLE:
                match.negated = True
            else:
                match.possessed = True

    def _refuse(self) -> None:
        """Read "Grad-CAM is not an option", which speaks of the name before it."""
        folded = _fold(self.text)
        for match in self.matches:
            if not match.negated and words.NOT_AFTER.match(folded, self.tokens[match.last - 1].end):
                match.negated = True

    def _replace(self) -> None:
        """Read "MRI, sorry, I meant CT": the second takes the place of the first."""
        covered = {i for m in self.matches for i in range(m.first, m.last)}
        for width in (5, 4, 3, 2, 1):
            for first in range(1, len(self.tokens) - width):
                last = first + width
                cue = "".join(t.word for t in self.tokens[first:last])
                comma = self.text[self.tokens[last - 1].end : self.tokens[last].start].strip() in (",", "，")
                if cue not in words.CORRECTING and not (comma and cue in words.NO):
                    continue
                if covered & set(range(first, last)):
                    continue
                after = [m for m in self.matches if last <= m.first <= last + 4 and not m.negated]
                before = [m for m in self.matches if first - 6 <= m.last <= first and not m.negated]
                # a cue alone ("actually") corrects only after a pause
                turn = any(t.word in words.BUT for t in self.tokens[max(first - 3, 0) : first])
                pause = _PAUSE.search(self.text[self.tokens[first - 1].end : self.tokens[first].start])
                if not after or not (turn or pause):
                    continue
                kinds = {n.kind: n.id for n in after[0].names}
                for match in before:
                    if any(n.kind in kinds and kinds[n.kind] != n.id for n in match.names):
                        match.negated = True

    def _goal_cues(self) -> None:
        """Add the goals that turns of phrase say."""
        folded = _fold(self.text)
        for goal, pattern in words.GOALS.items():
            found = pattern.search(folded) if goal in self.lexicon.goal_ids else None
            if not found:
                continue
            inside = [i for i, t in enumerate(self.tokens) if t.start < found.end() and t.end > found.start()]
            self.matches.append(_Match(inside[0], inside[-1] + 1, [_Name("goal", goal, False)]))
            for i in (inside[0], inside[-1]):
                self.tokens[i].used = True

    def _asks(self, methods: tuple[str, ...]) -> Asks:
        """What is asked about the methods that are named."""
        if not methods:
            return "recommend"
        folded, end, text = _fold(self.text), 0, ""
        for match in sorted(self.matches, key=lambda m: m.first):
            start = self.tokens[match.first].start
            if start >= end and not match.negated and any(n.kind == "method" and n.id in methods for n in match.names):
                text += folded[end:start] + "§"
                end = self.tokens[match.last - 1].end
        text += folded[end:]
        if len(methods) > 1 and words.ALTERNATIVES.search(text):
            return "compare"
        return "judge" if len(methods) == 1 and words.JUDGING.search(text) else "recommend"

    def _follow(self, cue: int, i: int, at: Mapping[int, _Match], mark: str) -> None:
        steps = 0
        while i < len(self.tokens) and steps < 5:
            if i and _SENTENCE.search(self.text[self.tokens[i - 1].end : self.tokens[i].start]):
                return
            if i in at:
                setattr(at[i], mark, True)
                at[i].cue = cue
                i, steps = at[i].last, 0
                while i < len(self.tokens) and self.tokens[i].word in words.SUPPORT:
                    i += 1
                if i >= len(self.tokens) or self.tokens[i].word not in words.AND:
                    return
                i += 1
            elif self.tokens[i].word in words.FILL:
                i, steps = i + 1, steps + 1
            else:
                return

    # --- from matches to the query ---

    def query(self) -> Query:
        """Return the reading as a query."""
        implied: set[str] = set()
        excluded = [e for kind in ("method", "family", "modality") for e in self._wanted(kind, negated=True)]
        families = self._wanted("family")
        modality = self._wanted("modality", "modality")
        if not modality:
            modality = self._wanted("implied", "modality")
            if modality:
                implied.add("modality")
        task = self._one("task")
        architecture = self._one("architecture")
        if task is None and architecture in _TASK_OF:
            task = _TASK_OF[architecture]
            implied.add("task")
            self.spans["task"] = self.spans["architecture"]
        black_box = bool(self._wanted("access", "access")) or self.only_outputs
        lacks, has = set[str](), set[str]()
        for match in self.matches:
            needs = {n.id for n in match.names if n.kind == "need"}
            if match.negated:
                lacks |= needs
                if any(n.kind == "intrinsic" for n in match.names):
                    lacks.add("retraining")
                if "gradients" in needs or any(n.kind == "inside" for n in match.names):
                    black_box = True
                    self._span("access", match.first if match.cue is None else match.cue, match.last)
            elif match.possessed:
                has |= needs
        budget = self.budget
        if budget is None:
            loose = self._wanted("budget", "budget")
            if loose:
                budget = min(map(float, loose))
                implied.add("budget")
        dimension = self._one("dimension") or self._dimension_inside()
        methods = self._wanted("method", "methods")
        return Query(
            text=self.text,
            modality=modality,
            task=task,
            architecture=architecture,
            dimension="3d" if dimension == "3d" else "2d" if dimension == "2d" else None,
            access="black_box" if black_box else None,
            audience=self._one("audience"),
            goal=self._goal(families, implied),
            budget=budget,
            methods=methods,
            unmatched=self._unmatched(),
            spans={k: ", ".join(dict.fromkeys(t for _, t in sorted(v))) for k, v in self.spans.items()},
            implied=frozenset(implied),
            excluded=tuple(e for e in excluded if e not in modality),
            families=families,
            criteria=self._wanted("criterion"),
            others=self._wanted("other"),
            anatomy=self._wanted("anatomy"),
            has=frozenset(has - lacks),
            lacks=frozenset(lacks),
            intrinsic=bool(self._wanted("intrinsic")),
            corrections=self.corrections,
            asks=self._asks(methods),
            on_topic=any(t.word in words.DOMAIN for t in self.tokens) or "解释" in self.text,
        )

    def _named(self, kinds: Iterable[str], negated: bool) -> Iterator[tuple[_Match, _Name]]:
        for match in self.matches:
            if match.negated is negated:
                # a need that is also a family ("gradients") speaks of the model when it is denied or owned
                need = any(n.kind == "need" for n in match.names) and (negated or match.possessed)
                need = need or any(n.kind == "inside" for n in match.names)
                for name in match.names:
                    if name.kind in kinds and not (need and name.kind == "family"):
                        yield match, name

    def _wanted(self, kind: str, span: str | None = None, negated: bool = False) -> tuple[str, ...]:
        """The ids of a kind that are wanted, or not; where names and aliases agree in words, the names count."""
        found: dict[str, None] = {}
        for match, name in self._named((kind,), negated):
            if not name.exact and any((n.kind == kind and n.exact) or n.kind == "goal" for n in match.names):
                continue  # an alias gives way to a name, and to the wish that is said in the same words
            if kind == "method" and any(n.kind == "task" for n in match.names):
                continue  # "report generation" is what the model does
            if span and name.id not in found:
                self._span(span, match.first, match.last)
            found[name.id] = None
        return tuple(found)

    def _one(self, kind: str) -> str | None:
        """The id of a field with one value: what is named rather than paraphrased, then what is said first."""
        found = list(self._named((kind,), negated=False))
        specific = [f for f in found if f[1].id not in _LOOSE]
        if not found:
            return None
        match, name = min(specific or found, key=lambda f: (not f[1].exact, f[0].first))
        if kind == "task" and name.id == "detection":  # "a classifier for pneumonia detection" classifies
            for other in found:
                if other[1].id == "classification":
                    match, name = other
        self._span(kind, match.first, match.last)
        return name.id

    def _dimension_inside(self) -> str | None:
        """The dimension inside a longer name, such as "3D U-Net" or "CT volume"."""
        for match, _ in self._named(("architecture", "modality"), negated=False):
            for dimension, phrases in words.DIMENSIONS.items():
                for i in range(match.first, match.last):
                    if self.tokens[i].word in phrases:
                        self._span("dimension", i, i + 1)
                        return dimension
        return None

    def _goal_of(self, families: tuple[str, ...], implied: set[str]) -> str | None:
        """The goal that a named family serves before all, such as counterfactuals."""
        for match, name in self._named(("family", "method"), negated=False):
            goal = self.lexicon.goals.get(name.id)
            if goal and len(families) < 2:
                implied.add("goal")
                self._span("goal", match.first, match.last)
                return goal
        return None

    def _goal(self, families: tuple[str, ...], implied: set[str]) -> str | None:
        """The goal that is said; a named family of methods does not need one."""
        found = list(self._named(("goal",), negated=False))
        if not found:
            return self._goal_of(families, implied)
        # a map is what is looked at, evaluated or explained in words: the wish around it counts
        order = [f for f in found if f[1].id not in ("where", "evaluate_maps")]
        order = order or [f for f in found if f[1].id != "where"] or found
        match, name = min(order, key=lambda f: (not f[1].exact, f[0].first))
        if families and name.id == "where":
            return self._goal_of(families, implied)
        self._span("goal", match.first, match.last)
        return name.id

    def _unmatched(self) -> tuple[str, ...]:
        found: dict[str, None] = {}
        chinese, end = "", 0

        def flush() -> None:
            rest = chinese
            for stop in _CJK_STOP:
                rest = rest.replace(stop, " ")
            for piece in rest.split():
                found[piece] = None

        for token in self.tokens:
            if _CJK.match(token.word):
                if token.used or (chinese and token.start != end):
                    flush()
                    chinese = ""
                if not token.used:
                    chinese, end = chinese + token.word, token.end
                continue
            if chinese:
                flush()
                chinese = ""
            if token.used or len(token.word) < 2 or token.word.isdigit():
                continue
            if token.word in words.STOP or any(s in words.STOP for s in _stems(token.word) if len(s) > 3):
                continue
            if token.word in _QUIET:
                continue
            found[token.typed] = None
        if chinese:
            flush()
        return tuple(found)


_PAUSE = re.compile(r"[^\w\s'’]|^[\u3400-\u9fff]?$")
_LOOSE = frozenset({"cnn", "other"})
"""A U-Net or a detector is a CNN too; the more telling word counts."""
_TASK_OF = {"unet": "segmentation", "detector": "detection", "mil": "classification"}
"""Tasks that an architecture's name gives away."""
_QUIET = (
    words.NOT
    | words.FILL
    | words.AND
    | words.HAVE
    | words.SUPPORT
    | words.DOMAIN
    | words.NAMES_THAT_ARE_WORDS
    | words.ADDRESSED
)
"""Words that were read for what they do, or are plain words in this place."""
_CJK_STOP = sorted(
    {*words.STOP_CJK, *(w for w in words.NOT | words.FILL | words.AND if _CJK.match(w))}, key=len, reverse=True
)
