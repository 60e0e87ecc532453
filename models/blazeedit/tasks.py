"""The five tasks of BlazeEdit and the one place that defines their signal τ (paper, section 3.3).

A mask is white (1) where the picture is to be edited. The condition encoder f_θ sees τ_i · m with m in
{0, 1}: the constant alone tells it which task is meant. Outpainting has τ = 1, the unscaled mask of pretraining.
"""

from dataclasses import dataclass

from ..errors import EditError


@dataclass(frozen=True)
class Task:
    """One kind of edit: its τ, how its result reaches full resolution, and its default number of steps."""

    name: str
    tau: float
    delivery: str  # "paste" | "colour_map" | "gain_map" | "sticker"
    steps: int
    needs_mask: bool


TASKS = {
    t.name: t
    for t in (
        # one step measures better than two while the weights are not distilled (0.1 dB in removal)
        Task("remove", 0.4, "paste", 1, True),
        Task("outpaint", 1.0, "paste", 1, True),
        Task("tone", 0.2, "colour_map", 1, False),
        Task("relight", 0.6, "gain_map", 1, False),
        Task("sticker", 0.8, "sticker", 1, True),
    )
}
UNUSED_TAUS = (0.3, 0.5, 0.7, 0.9)  # free for tasks that a user registers while finetuning


def task(name: str, extra: dict[str, float] | None = None) -> Task:
    """Returns the task of that name; extra: the τ of tasks that a model's finetuning registered.

    EditError for an unknown one, naming those that exist.
    """
    if name in TASKS:
        return TASKS[name]
    if extra and name in extra:
        return Task(name, extra[name], "residual", 1, False)
    raise EditError(f"There is no task {name!r}; choose one of {', '.join([*TASKS, *(extra or {})])}.")


def register(name: str, tau: float, extra: dict[str, float]) -> dict[str, float]:
    """`extra` with one more task. EditError for a name or a τ that is taken, or a τ outside 0..1."""
    taken = {**{t.name: t.tau for t in TASKS.values()}, **{k: v for k, v in extra.items() if k != name}}
    if name in TASKS or not name.isidentifier():
        raise EditError(
            f"A task cannot be called {name!r}; use a new word of letters, digits and underscores."
        )
    close = next((k for k, v in taken.items() if abs(v - tau) < 0.05), None)
    if not 0 < tau <= 1 or close:
        free = ", ".join(str(t) for t in UNUSED_TAUS if all(abs(t - v) >= 0.05 for v in taken.values()))
        raise EditError(
            f"τ = {tau} is {'too close to that of ' + close if close else 'not in 0..1'}; free are {free}."
        )
    return {**extra, name: tau}
