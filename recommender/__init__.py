"""What to use: reads a question, ranks the methods and says why, with sources. No model, no network, no torch."""

from recommender.argue import Answer, Role, Step, answer, panel_for
from recommender.case import Measured, ready
from recommender.clarifying import Clarification, clarify
from recommender.comparing import Comparison, Sentence, WhyNot, compare, why_not
from recommender.query import Query, parse
from recommender.rank import Evidence, Reason, Recommendation, RuledOut, recommend
from recommender.snippets import snippet

__all__ = [
    "Answer",
    "Clarification",
    "Comparison",
    "Evidence",
    "Measured",
    "Query",
    "Reason",
    "Recommendation",
    "Role",
    "RuledOut",
    "Sentence",
    "Step",
    "WhyNot",
    "answer",
    "clarify",
    "compare",
    "panel_for",
    "parse",
    "ready",
    "recommend",
    "snippet",
    "why_not",
]
