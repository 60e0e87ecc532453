"""The one exception that a user is meant to read."""


class EditError(ValueError):
    """Bad input, said in one sentence: what is wrong, which value, what to do."""
