"""What ``--set`` and the settings for a corpus or a protocol make of a definition, and how ``KEY=VALUE`` is read."""

from collections.abc import Mapping, Sequence
from typing import Any

from strategies.errors import unknown
from strategies.text import shortened
from study import yaml_text
from study.errors import DefinitionError


def overridden(content: dict[str, Any], overrides: Sequence[str], corpus: str, protocol: str) -> dict[str, Any]:
    """Return the content of a definition with what holds for its corpus, its protocol and the overrides, in this order.

    Args:
        content: as the file has it.
        overrides: ``a.b=value`` each, with YAML values.
        corpus: the one that a definition that names none is of.
        protocol: that of a split that names none.

    Raises:
        DefinitionError: an override cannot be read, or there is no such protocol.
    """
    assignments = [_assignment(text) for text in overrides]
    named = content.get("corpus")
    name = _last(assignments, ["corpus", "name"]) or (named.get("name") if isinstance(named, dict) else None)
    corpus = str(name or corpus)
    content = _with_corpus(content, content, corpus, protocol)
    chosen = _last(assignments, ["protocol"]) or content.get("protocol")
    if chosen is not None:
        special = _protocol(content.get("protocols"), str(chosen))
        content = _changed(content, {key: value for key, value in special.items() if key != "per_corpus"}, protocol)
        content = _with_corpus(content, special, corpus, protocol)
    for path, value in sorted(assignments, key=lambda assignment: assignment[0] not in _PROTOCOLS):
        content = _changed(content, _nested(path, value), protocol)
    return content


def _last(assignments: Sequence[tuple[list[str], Any]], wanted: list[str]) -> object:
    """Return the last value that is assigned to a path, or None."""
    return next((value for path, value in reversed(assignments) if path == wanted), None)


def _with_corpus(content: dict[str, Any], settings: Mapping[str, Any], corpus: str, protocol: str) -> dict[str, Any]:
    """Return the content with what ``per_corpus`` of some settings says of a corpus."""
    per_corpus = settings.get("per_corpus")
    special = per_corpus.get(corpus) if isinstance(per_corpus, dict) else None
    return _changed(content, special, protocol) if isinstance(special, dict) else content


def _protocol(protocols: object, name: str) -> dict[str, Any]:
    """Return the settings of a protocol of the definition."""
    known = (
        {key: value for key, value in protocols.items() if isinstance(value, dict)}
        if isinstance(protocols, dict)
        else {}
    )
    if not known:
        raise DefinitionError(
            f"protocol is '{shortened(name)}', but this definition has no protocols; how it splits is split.protocol"
        )
    if name not in known:
        raise DefinitionError(unknown("protocol", name, known))
    return known[name]


_PROTOCOLS = (["split"], ["split", "protocol"])
"""What an override of the protocol of the split is called."""


def _changed(content: Mapping[str, Any], changes: Mapping[str, Any], protocol: str) -> dict[str, Any]:
    """Return the content with the changes; the options of a split go with its protocol, as they fit no other."""
    split, new = content.get("split"), changes.get("split")
    if isinstance(split, dict) and isinstance(new, dict):
        before = split.get("protocol", protocol)
        if new.get("protocol", before) != before:
            content = {**content, "split": {}}
    return _merge(content, changes)


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """Return the options that ``--option KEY=VALUE`` gives, values read as YAML.

    >>> parse_options(["alpha=0.5", "initial_loss=chance"])
    {'alpha': 0.5, 'initial_loss': 'chance'}

    Raises:
        DefinitionError: not KEY=VALUE, or a value that is not YAML.
    """
    return {".".join(path): value for path, value in (_assignment(text, "--option", "alpha=0.5") for text in texts)}


def _assignment(text: str, flag: str = "--set", example: str = "training.epochs=20") -> tuple[list[str], Any]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise DefinitionError(f"{flag} {text}: expected KEY=VALUE, such as {flag} {example}")
    try:
        return path.strip().split("."), yaml_text.parse(value)
    except ValueError:
        raise DefinitionError(f"{flag} {text}: the value is not YAML") from None


def _nested(path: Sequence[str], value: object) -> dict[str, Any]:
    for key in reversed(path):
        value = {key: value}
    return dict(value) if isinstance(value, dict) else {}


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``base`` with ``changes``; mappings are merged key by key, everything else is replaced."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) and value else value
    return merged
