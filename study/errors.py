"""Mistakes in a study, told in one line."""

from strategies.errors import UserError


class StudyError(UserError):
    """A study that cannot be found, run, compared or reported as asked."""


class DefinitionError(StudyError):
    """A definition that says something it may not say."""
