"""Jobs through a ComfyUI server's queue: sent, followed, fetched and recorded, whatever happens in between.

Exactly once: a job's prompt id is on the disk before the server hears of it, and the names of its results before the
first is fetched. After a crash of either side the id is looked up in the server's history and queue; only when it
is in neither is the same prompt sent again, and its results go by the same names.
"""

import contextlib
import sys
import time
import uuid
from collections import deque
from dataclasses import dataclass, field

from . import fetching
from .errors import EditError, NodeFailed, PromptRefused
from .files import Unwritable
from .jobs import SUBFOLDER, Job
from .patience import Away, Patient, find, withdraw
from .progress import Reporter
from .record import Record
from .remote import Refused, Remote
from .websocket import Events

AHEAD = 2  # jobs on the server at once: it never waits for us, and little is lost when it goes
SLOWEST = 1.0  # seconds between two looks at the server
LOSSES = 3  # how often a job that vanished from a server that was there all the time is sent again
CLOSED = (401, 403, 407)  # no other job would be let in either


@dataclass(frozen=True)
class Options:
    """patience: seconds to wait for a server that went away. retry: jobs that failed before, too. again: all."""

    patience: float = 300.0
    retry: bool = False
    again: bool = False


@dataclass
class Flight:
    """A job on its way."""

    job: Job
    label: str
    key: str
    prompt_id: str
    began: float = field(default_factory=time.monotonic)
    tried: bool = False  # the server may have it
    taken: bool = False  # the server has said that it has it
    life: int | None = None  # of the server, when it took the job last
    losses: int = 0
    partial: str | None = None  # why some of its outputs will not be made
    blocked: list[str] = field(default_factory=list)


class Queue:
    """Takes jobs through a server. `done`, `before` (done earlier) and `failed` count them."""

    def __init__(self, remote: Remote, record: Record, options: Options, silent: bool = False):
        """silent: nothing is printed and no bar drawn; for callers that tell of many jobs themselves."""
        self.remote, self.record, self.options, self.silent = remote, record, options, silent
        self.server = Patient(remote, options.patience, lambda text: self._say(text, sys.stderr), self._gone)
        self.client_id = str(uuid.uuid4())
        self.events = Events(remote, self.client_id, self._hear)
        self.flying: dict[str, Flight] = {}
        self.uploaded: dict[str, str] = {}  # hash -> what the server calls it
        self.reporter: Reporter | None = None
        self.life, self.number = 0, -1.0
        self.total = self.done = self.before = self.failed = 0

    def run(self, jobs: list[Job]) -> None:
        """Does every job that the record does not know as done; one that fails is said and recorded.

        EditError when the server stays away, lets nobody in, or refuses the workflow as such, and when results
        cannot be written. A single job's failure is raised. On Ctrl-C, what was queued here leaves the server's queue.
        """
        self.total = len(jobs)
        waiting, pause = deque(enumerate(jobs, 1)), 0.1
        try:
            while waiting or self.flying:
                while waiting and len(self.flying) < AHEAD:
                    self._start(*waiting.popleft())
                landed = self._look(pause) if self.flying else True
                pause = 0.1 if landed else min(pause * 1.3, SLOWEST)
        except KeyboardInterrupt:
            self._cancel()
            raise
        finally:
            self._hush()
            self.events.close()

    # -- one job ------------------------------------------------------------------------------------------

    def _start(self, number: int, job: Job) -> None:
        label = f"[{number}/{self.total}] {job.item}" if self.total > 1 else job.item
        key = job.key()
        state = self.record.get(key)
        known = "" if self.options.again else state.get("state", "")
        if known == "done" and fetching.complete(state, self.record.path.parent):
            self.before += 1
            return
        if known == "failed" and not self.options.retry and self.total > 1:
            self.failed += 1
            self._say(f"{label}: {state.get('error')} (last time; --retry-failed tries it again)", sys.stderr)
            return
        resumed = known in ("queued", "saving") and state.get("prompt_id")
        flight = Flight(job, label, key, state["prompt_id"] if resumed else str(uuid.uuid4()))
        flight.partial = state.get("partial") if resumed else None
        self.flying[flight.prompt_id] = flight
        with self._failures(flight):
            if not resumed or not self._taken_up(flight):
                self._send(flight)

    def _taken_up(self, flight: Flight) -> bool:
        """Whether the server still has, or has finished, what an earlier run of this command had sent."""
        entry = self.server.find(flight.prompt_id)
        if entry and _was_interrupted(entry):  # by that run's Ctrl-C
            del self.flying[flight.prompt_id]
            flight.prompt_id = str(uuid.uuid4())
            self.flying[flight.prompt_id] = flight
            return False
        flight.tried = flight.taken = entry is not None
        return flight.taken

    def _send(self, flight: Flight) -> None:
        job = flight.job
        prompt = {i: {**node, "inputs": dict(node["inputs"])} for i, node in job.prompt.items()}
        for at in job.files:
            prompt[at.node]["inputs"][at.input] = self._upload(job, at)
        self._put(flight, "queued")
        self.server.ask(self._post, flight, prompt)
        if flight.partial:
            self._put(flight, "queued")

    def _upload(self, job: Job, at) -> str:
        name = job.hash(job.files[at])
        if name not in self.uploaded:
            job.check(at)
            self.uploaded[name] = self.server.ask(self.remote.upload, job.files[at], job.sent_name(at), SUBFOLDER)
        return self.uploaded[name]

    def _post(self, flight: Flight, prompt: dict) -> None:
        if flight.tried and find(self.remote, flight.prompt_id) is not None:
            flight.taken = True  # the answer to the last attempt was lost, the prompt was not
            return
        flight.tried = True
        body = {"prompt": prompt, "prompt_id": flight.prompt_id, "client_id": self.client_id}
        body["extra_data"] = {k: v for k, v in flight.job.extra_data.items() if k != "client_id"}
        status, reply = self.remote.post("/prompt", body)
        errors = reply.get("node_errors") or {}
        if status != 200:
            errors = flight.job.explained(errors, str(self.remote.address))
            said = {"message": "The server refused it", "details": ""} | (reply.get("error") or {})
            raise PromptRefused(said, errors)
        flight.taken = True
        self._count(flight, reply.get("number"))
        if errors:
            flight.partial = str(PromptRefused({"message": "", "details": ""}, errors))

    def _count(self, flight: Flight, number) -> None:
        """A server numbers what it is given, and begins anew when it is started anew: that is a life of its own.

        A job that comes twice in one life was taken off the queue by somebody.
        """
        number = number if isinstance(number, (int, float)) else self.number + 1
        self.life += number <= self.number
        self.number = number
        flight.losses += flight.life == self.life
        flight.life = self.life

    # -- following ----------------------------------------------------------------------------------------

    def _look(self, seconds: float) -> bool:
        """Waits a little, then asks for every job under way. Returns whether one has ended."""
        self.events.wait(seconds)
        before = len(self.flying)
        for flight in list(self.flying.values()):
            with self._failures(flight):
                entry = self.server.find(flight.prompt_id)
                if entry:
                    self._land(flight, entry)
                elif entry is None:
                    self._lost(flight)
        return len(self.flying) < before

    def _lost(self, flight: Flight) -> None:
        """Sends a job again that the server forgot: it was started anew, which its numbers tell, or somebody took
        the job off its queue."""
        if flight.losses >= LOSSES:
            raise EditError(
                f"It vanished from the server's queue {LOSSES + 1} times; see who empties it, then use --retry-failed."
            )
        self.uploaded.clear()
        flight.tried = flight.taken = False
        self._send(flight)

    def _land(self, flight: Flight, entry: dict) -> None:
        """Takes in what the server says of a job that has ended."""
        problem = failure(entry, flight.job)
        if problem is not None:
            raise problem
        outputs = entry.get("outputs") or {}
        found = fetching.results(outputs, flight.job.prompt)
        names = fetching.names(found, flight.job, flight.key, self.record)
        self._put(flight, "saving", files=[{"name": name} for name in names])
        try:
            folder = self.record.path.parent
            files = [
                fetching.fetch(self.remote, r, folder / name, self.server.ask) for r, name in zip(found, names)
            ]
        except Refused as refusal:
            if refusal.status != 404:
                raise
            return self._vanished(flight, refusal)
        reasons = [*filter(None, [flight.partial]), *flight.blocked]
        if reasons:
            return self._fail(flight, EditError("; ".join(reasons)), files)
        self._put(flight, "done", files=files)
        self._end(flight, [str(folder / f["name"]) for f in files], fetching.texts(outputs, flight.job.prompt))

    def _vanished(self, flight: Flight, refusal: Refused) -> None:
        """A result is not on the server any more: previews go when it is started anew, and so does its history."""
        if self.server.find(flight.prompt_id) is None:
            return self._lost(flight)
        raise EditError(
            "The server has computed this before and its file is gone from the server's folder; set another file "
            "name prefix to have it saved again."
        ) from refusal

    def _end(self, flight: Flight, paths: list[str], texts: list[str]) -> None:
        self.done += 1
        del self.flying[flight.prompt_id]
        if self.total > 1:
            seconds = time.monotonic() - flight.began
            self._say(f"{flight.label} -> {', '.join(paths) or 'no file'} ({seconds:.1f} s)")
        else:
            for line in [*paths, *texts]:
                self._say(line)

    # -- what goes wrong ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _failures(self, flight: Flight):
        """A job's own failure is recorded, and the others go on; any other one is everybody's."""
        try:
            yield
        except Refused as refusal:
            if refusal.status in CLOSED:
                raise
            self._fail(flight, refusal)
        except PromptRefused as refusal:
            if not flight.job.own & set(refusal.node_errors):  # the workflow's fault, not this photo's
                self._put(flight, "refused")
                raise
            self._fail(flight, refusal)
        except (Away, Single, Unwritable):
            raise
        except EditError as problem:
            self._fail(flight, problem)

    def _fail(self, flight: Flight, problem: EditError, files: list[dict] | None = None) -> None:
        self.failed += 1
        self.flying.pop(flight.prompt_id, None)
        self._put(flight, "failed", error=str(problem), **({"files": files} if files else {}))
        if self.total == 1:
            raise Single(str(problem)) from problem
        self._say(f"{flight.label}: {problem}", sys.stderr)

    def _put(self, flight: Flight, state: str, **more) -> None:
        """Records a job's state; names of results stay known once they are chosen."""
        kept = self.record.get(flight.key).get("files")
        event = {"item": flight.job.item, "state": state, "prompt_id": flight.prompt_id}
        event |= {"files": kept} if kept and "files" not in more else {}
        event |= {"partial": flight.partial} if flight.partial else {}
        self.record.put(flight.key, **event, **more)

    def _gone(self, reason: str) -> str:
        done = f"{self.done + self.before} of {self.total} are done. " if self.total > 1 else ""
        return (
            f"The server at {self.remote.address} has been away for {self.options.patience:.0f} s ({reason}). {done}"
            "Start it, and run the same command again: it goes on where it stopped."
        )

    def _cancel(self) -> None:
        """After Ctrl-C, what is ours leaves the server's queue."""
        self._hush()
        withdraw(self.remote, set(self.flying), arriving=any(not f.taken for f in self.flying.values()))
        if self.total > 1:
            self._say("Run the same command again to go on.", sys.stderr)

    # -- telling ------------------------------------------------------------------------------------------

    def _hear(self, kind: str, data: dict) -> bool:
        """Draws the bar from the server's messages; true when one of our prompts has ended."""
        flight = self.flying.get(str(data.get("prompt_id")))
        if flight is None:
            return False
        told = kind == "progress" and not self.silent
        if told and all(isinstance(data.get(k), (int, float)) for k in ("value", "max")):
            if self.reporter is None or self.reporter.label != flight.label:
                self._hush()
                self.reporter = Reporter(flight.label)
            self.reporter.hear(data["value"], data["max"])
        if kind == "execution_error" and data.get("exception_type") == "ExecutionBlocked":
            flight.blocked.append(str(data.get("exception_message")))
        return kind == "executing" and data.get("node") is None

    def _hush(self) -> None:
        if self.reporter is not None:
            self.reporter.close()
        self.reporter = None

    def _say(self, line: str, stream=None) -> None:
        self._hush()
        if not self.silent:
            print(line, file=stream or sys.stdout, flush=True)


class Single(EditError):
    """The failure of the only job."""


def failure(entry: dict, job: Job) -> EditError | None:
    """What a history entry says went wrong, in the words of the in-process runner; None after a success."""
    if _was_interrupted(entry):
        return EditError("It was stopped on the server before it ended; run it again.")
    status = entry.get("status") or {}
    if status.get("status_str", "success") == "success":
        return None
    said = [data for kind, data in status.get("messages") or [] if kind == "execution_error"]
    if not said:
        return fetching.failure_without_words()
    blank = {"exception_message": "", "exception_type": "an error", "node_type": "a node", "node_id": ""}
    details = {**blank, **said[-1]}
    details["exception_message"] = job.by_own_names(str(details["exception_message"]))
    return NodeFailed(details, job.title(str(details["node_id"])))


def _was_interrupted(entry: dict) -> bool:
    return any(kind == "execution_interrupted" for kind, _ in (entry.get("status") or {}).get("messages") or [])
