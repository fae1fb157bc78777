"""Write recommender/lookalikes.py anew: ordinary English words within typo distance of a name that `parse` knows.

    apt-get install wamerican && python docs/lookalikes.py /usr/share/dict/american-english

The words come from SCOWL (Kevin Atkinson), which may be used, copied and distributed freely.
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from recommender import query
from taxonomy import load_kb

HEAD = '''"""Ordinary English words that look like a misspelt name of the domain and are not one.

"Attentive" is no typo of "attention". Written by docs/lookalikes.py from the word list SCOWL; not edited by hand.
"""

_WORDS = """
'''
TAIL = '''
"""

LOOKALIKES = frozenset(_WORDS.split())
'''


def main(word_list: str) -> None:
    kb = load_kb()
    query.LOOKALIKES = frozenset()  # or the old list would hide its own words
    query._prose = lambda _: set()  # sentences of the knowledge base come and go
    lexicon = query._build(kb)
    reader = query._Reader("", lexicon)
    folded = {query._fold(word.strip()) for word in Path(word_list).read_text("utf-8").splitlines()}
    words = sorted(
        word
        for word in folded
        if word.isascii() and word.isalpha() and word not in lexicon.known and word not in lexicon.names
        and query._tolerance(word) and reader._nearest(word, query._tolerance(word)) not in (None, word)
    )  # fmt: skip
    text = textwrap.fill(" ".join(words), 118, initial_indent="    ", subsequent_indent="    ")
    (Path(__file__).parents[1] / "recommender" / "lookalikes.py").write_text(HEAD + text + TAIL, "utf-8")
    print(f"{len(words)} words")


if __name__ == "__main__":
    main(sys.argv[1])
