"""From the evaluations of IEMOCAP to labels: named policies, each with its origin, and the published counts."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast, get_args

from trainables.corpora.iemocap_files import CODES, DIMENSIONS, NO_CONSENSUS, Evaluation
from trainables.corpora.votes import Ties, as_json, winner

CLASSES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "four": {"neu": "neutral", "ang": "anger", "hap": "happiness", "exc": "happiness", "sad": "sadness"},
        "four_strict": {"neu": "neutral", "ang": "anger", "hap": "happiness", "sad": "sadness"},
        "five": {
            "neu": "neutral",
            "ang": "anger",
            "hap": "happiness",
            "exc": "happiness",
            "sad": "sadness",
            "fru": "frustration",
        },
        "six": {
            "neu": "neutral",
            "ang": "anger",
            "hap": "happiness",
            "exc": "excitement",
            "sad": "sadness",
            "fru": "frustration",
        },
        "nine": {
            "neu": "neutral",
            "ang": "anger",
            "hap": "happiness",
            "exc": "excitement",
            "sad": "sadness",
            "fru": "frustration",
            "sur": "surprise",
            "fea": "fear",
            "dis": "disgust",
        },
    }
)
"""Policy -> code -> class; codes that are not there have no class.

``four`` is what most of the literature uses (5,531 utterances; SpeechBrain and s3prl do so). ``four_strict`` is the
code of Chae et al. 2018, which does not merge excitement into happiness (4,490). ``five`` and ``six`` keep frustration,
with and without the merger (7,380; ``six`` in Dai et al. 2021). ``nine`` is everything but "other" (7,529).
"""
TIES = (*get_args(Ties), "published")
DOMAINS = ("all", "improvised", "scripted")

_NAMES = {**CLASSES["nine"], "oth": "other"}
_COUNTS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "improvised": dict(zip(CODES, (1099, 289, 284, 663, 608, 971, 60, 8, 1, 1), strict=True)),
        "scripted": dict(zip(CODES, (609, 814, 311, 378, 476, 878, 47, 32, 1, 2), strict=True)),
    }
)
_SPEAKERS_OF_FOUR: Mapping[str, int] = MappingProxyType(
    {
        "Ses01_F": 528,
        "Ses01_M": 557,
        "Ses02_F": 481,
        "Ses02_M": 542,
        "Ses03_F": 522,
        "Ses03_M": 629,
        "Ses04_F": 528,
        "Ses04_M": 503,
        "Ses05_F": 590,
        "Ses05_M": 651,
    }
)
SESSIONS: Mapping[str, int] = MappingProxyType(
    {"Session1": 1819, "Session2": 1811, "Session3": 2136, "Session4": 2103, "Session5": 2170}
)
"""Evaluated utterances of each session, whatever their consensus: 10,039."""


def class_names(emotions: str) -> tuple[str, ...]:
    """Return the classes of a policy in the order of their indices, which begins as in Chae et al. 2018.

    >>> class_names("four")
    ('neutral', 'anger', 'happiness', 'sadness')
    """
    return tuple(dict.fromkeys(CLASSES[emotions].values()))


def label_of(evaluation: Evaluation, emotions: str, ties: str, seed: int) -> str | None:
    """Return the class of an utterance, or None if it has none under these policies.

    Args:
        evaluation: what is said of it.
        emotions: one of ``CLASSES``.
        ties: one of ``TIES``; what becomes of utterances without consensus.
        seed: decides random ties.
    """
    classes = CLASSES[emotions]
    if evaluation.consensus in classes:
        return classes[evaluation.consensus]
    if ties == "published":
        return _first_listed(evaluation, classes)
    if ties == "drop" or evaluation.consensus != NO_CONSENSUS:
        return None
    order = class_names(emotions)
    votes = emotion_votes(evaluation, classes)
    chosen = winner(votes, cast(Ties, ties), order, utterance=evaluation.utterance, seed=seed)
    return chosen if chosen in order else None


def _first_listed(evaluation: Evaluation, classes: Mapping[str, str]) -> str | None:
    """Return the first class that the external evaluators list, or that the speaker does in an improvisation."""
    listeners = evaluation.speaker if evaluation.domain == "improvised" else "E"
    codes = (code for who, codes in evaluation.seen.items() if who.startswith(listeners) for code in codes)
    return next((classes[code] for code in codes if code in classes), None)


def emotion_votes(evaluation: Evaluation, classes: Mapping[str, str]) -> dict[str, float]:
    """Return class -> votes of the external evaluators; who names several emotions gives each a share of the one vote.

    Emotions that the policy merges are merged; those it leaves out keep their own names.
    """
    votes: dict[str, float] = {}
    for who, codes in evaluation.seen.items():
        for code in codes if who.startswith("E") else ():
            name = classes.get(code, _NAMES[code])
            votes[name] = votes.get(name, 0.0) + 1 / len(codes)
    return {name: round(count, 6) for name, count in votes.items()}  # thirds add up to whole votes again


def votes_of(evaluation: Evaluation, emotions: str) -> str:
    """Return the column ``votes``: of the emotion, and of the ratings 1 to 5 of each dimension."""
    votes: dict[str, dict[str, float]] = {"emotion": emotion_votes(evaluation, CLASSES[emotions])}
    for dimension, ratings in external_ratings(evaluation).items():
        votes[dimension] = {str(rating): ratings.count(rating) for rating in sorted(set(ratings))}
    return as_json(votes)


def external_ratings(evaluation: Evaluation) -> dict[str, list[int]]:
    """Return dimension -> the ratings of the external evaluators."""
    raters = [ratings for who, ratings in evaluation.rated.items() if who.startswith("E")]
    return {name: [ratings[name] for ratings in raters if name in ratings] for name in DIMENSIONS}


def published_classes(emotions: str, domain: str) -> dict[str, int]:
    """Return class -> number of utterances of the whole corpus whose consensus it is.

    >>> published_classes("four", "improvised")
    {'neutral': 1099, 'anger': 289, 'happiness': 947, 'sadness': 608}
    """
    domains = [domain] if domain in _COUNTS else list(_COUNTS)
    counts = dict.fromkeys(class_names(emotions), 0)
    for code, name in CLASSES[emotions].items():
        counts[name] += sum(_COUNTS[part][code] for part in domains)
    return counts


def published_speakers(emotions: str, domain: str) -> dict[str, int]:
    """Return speaker -> number of utterances, where that was published."""
    return dict(_SPEAKERS_OF_FOUR) if (emotions, domain) == ("four", "all") else {}
