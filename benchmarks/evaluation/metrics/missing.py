"""What a metric needs and is not here: its name, its size, where it is had and where it goes."""

from pathlib import Path


class Missing(Exception):
    """Why an engine cannot run, in one sentence."""

    @property
    def sentence(self) -> str:
        return str(self)


def package(name: str, install: str) -> Missing:
    """A Python package that is not installed."""
    return Missing(f"{name} is not installed ({install}).")


def weights(what: str, size: str, source: str, place: Path) -> Missing:
    """A model's files that are not on this machine."""
    return Missing(f"{what} is not here ({size}, from {source}); put it into {place}.")


def damaged(what: str, reason: str) -> Missing:
    """Files that are there and cannot be loaded."""
    return Missing(f"{what} cannot be loaded; download it again ({reason}).")
