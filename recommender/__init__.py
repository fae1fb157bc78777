"""What to use: reads a question, ranks the methods and says why, with sources. No model, no network, no torch."""

from recommender.query import Query, parse
from recommender.rank import Answer, Evidence, Measured, Reason, Recommendation, RuledOut, answer, recommend

__all__ = [
    "Answer",
    "Evidence",
    "Measured",
    "Query",
    "Reason",
    "Recommendation",
    "RuledOut",
    "answer",
    "parse",
    "recommend",
]
