"""In which order nodes run: only what an output needs, sources first, and lazy inputs only once asked for."""

from collections.abc import Callable, Iterable


class Schedule:
    """A topological order that can still grow while it is being worked off.

    sources(node) gives the nodes that it needs at once (not its lazy ones); is_done(node) says that a node's
    values are at hand already (cached), so that neither it nor what it needs has to run.
    """

    def __init__(self, sources: Callable[[str], Iterable[str]], is_done: Callable[[str], bool]):
        self._sources, self._is_done = sources, is_done
        self._waiting_for: dict[str, set[str]] = {}  # pending node -> pending nodes that must run before it
        self._held: set[str] = set()  # pending nodes whose asynchronous call is under way

    def __bool__(self) -> bool:
        return bool(self._waiting_for)

    def add(self, node: str) -> None:
        """Plans a node and everything it needs."""
        todo = [node]
        while todo:
            current = todo.pop()
            if current in self._waiting_for:
                continue
            needed = {s for s in self._sources(current) if not self._is_done(s)}
            self._waiting_for[current] = needed
            todo.extend(sorted(needed))

    def require(self, node: str, source: str) -> None:
        """From now on `node` waits for `source`: a lazy input that is wanted, or a node of its expansion."""
        if not self._is_done(source):
            self.add(source)
            self._waiting_for[node].add(source)

    def ready(self) -> list[str]:
        return [n for n, needed in self._waiting_for.items() if not needed and n not in self._held]

    def finish(self, node: str) -> None:
        del self._waiting_for[node]
        for needed in self._waiting_for.values():
            needed.discard(node)

    def hold(self, node: str) -> None:
        self._held.add(node)

    def release(self, node: str) -> None:
        self._held.discard(node)

    def cycle(self) -> list[str]:
        """The nodes that wait for each other, once nothing is ready; not those merely behind them."""
        left = {n: set(needed) for n, needed in self._waiting_for.items()}
        while True:
            awaited = set().union(*left.values())
            behind = [n for n in left if n not in awaited or not left[n]]
            if not behind:
                return list(left)
            for n in behind:
                del left[n]
            for needed in left.values():
                needed.difference_update(behind)
