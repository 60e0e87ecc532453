"""The endpoint judge against a real HTTP server on loopback that answers as such servers do, and as they should not."""

import json
import time

import pytest
import torch

from editkit import NODE_CLASS_MAPPINGS as NODES
from editkit.models.errors import EditError
from editkit.models.icedit.judging import JudgeFailed
from editkit.nodes.host import bundles, chat_request
from editkit.nodes.host.endpoint import Endpoint, address, key_of
from editkit.tests.loopback_judge import Silent, brighter, dripping, grey, says, serving

KEY = "sk-test-3f9a77c1d2e4"
DEFAULTS = {
    "model": "a-model", "key_variable": "", "timeout": 5.0, "retries": 2, "swap_order": False, "image_format": "png",
    "image_side": 64, "max_tokens": 512, "temperature": 0.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(chat_request, "FIRST_PAUSE", 0.01)


def judge(url, **changes):
    return NODES["EditKitICEditJudgeEndpoint"]().run(url=url, **{**DEFAULTS, **changes})[0]


def decided(url, pictures=None, original=None, **changes):
    pictures = [grey(v) for v in (0.2, 0.9, 0.5)] if pictures is None else pictures
    original = grey(0.1) if original is None else original
    return judge(url, **changes).choose(pictures, original, "make it bright", lambda done, total: None)


def test_the_brightest_wins_and_the_server_gets_the_papers_question_with_three_pictures():
    with serving(brighter) as server:
        made = decided(server.url, original=grey(0.1, 30, 200))
    assert (made.winner, made.calls, made.failures) == (1, 2, ())
    first = server.requests[0]
    assert (first.method, first.path) == ("POST", "/v1/chat/completions")
    assert "'make it bright'" in first.question and first.question.endswith("briefly explain why.")
    assert [p.size for p in first.pictures] == [(8, 8), (8, 8), (64, 10)]  # the longest side is bounded
    assert [p.getpixel((0, 0))[0] for p in first.pictures] == [51, 230, 26]
    assert "Authorization" not in first.headers
    told = first.json
    assert (told["model"], told["max_tokens"], told["temperature"], told["stream"]) == ("a-model", 512, 0, False)


def test_pictures_are_sent_as_jpeg_where_asked_and_settings_are_left_to_the_endpoint():
    with serving(brighter) as server:
        decided(server.url, image_format="jpeg", max_tokens=0, temperature=-1.0)
    assert server.requests[0].pictures[0].format == "JPEG"
    assert not {"max_tokens", "temperature"} & server.requests[0].json.keys()


@pytest.mark.parametrize("said", ["Answer: 2", "Image 2 is better", "**2**", [{"type": "text", "text": "2."}]])
def test_every_way_to_say_it_is_understood(said):
    with serving(lambda request: said) as server:
        assert decided(server.url).winner == 2


@pytest.mark.parametrize("said", ["Both are good.", "Neither.", "1 and 2 are equal", "I cannot see them."])
def test_words_without_a_decision_leave_the_first_and_are_told(said):
    with serving(lambda request: said) as server:
        made = decided(server.url)
    assert (made.winner, made.calls, len(made.failures)) == (0, 2, 2)
    assert all("no decision, 1 stays" in line and said in line for line in made.lines)


def test_a_server_that_fails_once_is_asked_again():
    with serving(lambda r: (500, b"oops", {}) if r.number == 0 else brighter(r)) as server:
        made = decided(server.url)
    assert (made.winner, made.failures, len(server.requests)) == (1, (), 3)


def test_a_busy_server_says_how_long_to_wait(monkeypatch):
    waited = []
    monkeypatch.setattr(chat_request, "pause", waited.append)
    with serving(lambda r: (429, b"slow down", {"Retry-After": "7"}) if r.number < 2 else brighter(r)) as server:
        assert decided(server.url).failures == ()
    assert waited == [7, 7]


def test_pauses_grow(monkeypatch):
    waited = []
    monkeypatch.setattr(chat_request, "pause", waited.append)
    with serving(lambda r: (503, b"", {"Retry-After": "99999"} if r.number == 2 else {})) as server:
        assert not decided(server.url, retries=3).lines[0].startswith("1 against 2: 1 wins")
    assert waited == [0.01, 0.02, 30] and len(server.requests) == 4


def garbled(text):
    return lambda request: (200, text, {})


DOWN = {
    "nothing at all": (lambda r: (_ for _ in ()).throw(Silent), "does not answer"),
    "no HTTP": (garbled(b""), "does not answer as a chat completion does: nothing"),
    "a web page": (garbled(b"<html><body>Welcome</body></html>"), "as a chat completion does: <html>"),
    "another JSON": (garbled(b'{"error": "no model"}'), "does not answer as a chat completion"),
    "a list": (garbled(b"[1, 2]"), "does not answer as a chat completion"),
    "an empty answer": (garbled(says("")), "does not answer as a chat completion"),
    "a null": (garbled(says(None)), "does not answer as a chat completion"),
    "half an answer": (lambda r: (200, b'{"choices', {"Content-Length": "900"}), "does not answer"),
    "no end": (garbled(b"x" * (2**18 + 9)), "answers with over"),
    "nested JSON": (garbled(b"[" * 100000), "does not answer as a chat completion"),
    "500": (lambda r: (500, b"a fault", {}), "answers 500 a fault (3 tries)"),
    "401": (lambda r: (401, b'{"error": "bad key"}', {}), "refuses with 401; check the key"),
    "404": (lambda r: (404, b"no such model", {}), "refuses with 404; check the URL and the model: no such model"),
}


@pytest.mark.parametrize("kind", DOWN)
def test_an_endpoint_that_is_down_leaves_the_champion_and_is_not_asked_on(kind):
    script, said = DOWN[kind]
    with serving(script) as server:
        made = decided(server.url)
    assert made.winner == 0 and made.calls == 1 and len(made.failures) == 1
    assert said in made.failures[0] and made.lines[-1].endswith("1 stays.")
    tries = 1 if kind in ("401", "404", "no end") else 3
    assert len(server.requests) == tries


def test_an_endpoint_that_goes_down_on_the_way_leaves_who_led():
    with serving(lambda r: brighter(r) if r.number == 0 else (401, b"", {})) as server:
        made = decided(server.url)
    assert made.winner == 1 and made.lines[-1].endswith("2 stays.")


def test_an_address_where_nobody_listens_is_said():
    with serving(brighter) as server:
        pass
    made = decided(server.url, retries=0)
    assert made.winner == 0 and "127.0.0.1 does not answer" in made.failures[0]


def test_a_bad_request_about_one_pair_does_not_end_the_judging():
    with serving(lambda r: (400, b"content policy", {}) if r.number == 0 else "2") as server:
        made = decided(server.url)
    assert made.winner == 2 and "refuses with 400: content policy" in made.failures[0]


@pytest.mark.parametrize("slow", ["no reply", "dripping"])
def test_a_late_answer_ends_with_its_time(slow):
    def script(request):
        if slow == "no reply":
            time.sleep(1.5)
            return "2"
        return (200, dripping(3), {})

    start = time.monotonic()
    with serving(script) as server:
        made = decided(server.url, timeout=0.5, retries=0)
        took = time.monotonic() - start
    assert made.winner == 0 and "did not answer within 0.5 s" in made.failures[0]
    assert took < 1.4


def test_cancelling_does_not_wait_for_the_answer(monkeypatch):
    class Cancelled(BaseException):
        pass

    def stop():
        stop.calls = getattr(stop, "calls", 0) + 1
        if stop.calls > 3:
            raise Cancelled

    monkeypatch.setattr(chat_request, "stop_if_cancelled", stop)
    start = time.monotonic()
    with serving(lambda r: time.sleep(1) or "2") as server:
        with pytest.raises(Cancelled):
            decided(server.url)
        assert time.monotonic() - start < 0.8


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_nothing_is_sent_on(status, monkeypatch):
    monkeypatch.setenv("EDITKIT_TEST_KEY", KEY)
    with serving(brighter) as other:
        target = other.url.replace("127.0.0.1", "localhost") + "?secret=1"
        with serving(lambda r: (status, b"", {"Location": target})) as server:
            made = decided(server.url, key_variable="EDITKIT_TEST_KEY")
        assert other.requests == [] and len(server.requests) == 1
    assert "redirects to localhost, which is not followed" in made.failures[0] and "secret" not in made.failures[0]


def test_a_proxy_of_the_environment_does_not_see_what_goes_to_this_machine(monkeypatch):
    with serving(lambda r: "1") as proxy, serving(brighter) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert decided(server.url).winner == 1
        assert proxy.requests == []


def test_the_key_goes_into_the_header_and_nowhere_else(monkeypatch, capsys, caplog):
    monkeypatch.setenv("EDITKIT_TEST_KEY", KEY)
    echo = json.dumps({"error": f"key {KEY} is wrong, you sent"}).encode()

    def script(request):
        if request.number == 0:
            return f"2, said to {KEY}"
        return (401, echo[:-2] + request.body[:3000] + request.files[0], {})

    with serving(script) as server:
        one = judge(server.url, key_variable="EDITKIT_TEST_KEY")
        made = one.choose([grey(v) for v in (0.2, 0.9, 0.5)], grey(0), "x", lambda *_: None)
    assert all(r.headers["Authorization"] == f"Bearer {KEY}" for r in server.requests)
    assert KEY not in server.requests[0].body.decode()
    bundles.say(" ".join(made.failures), once=False)
    seen = [str(made), repr(one), str(vars(one)), capsys.readouterr().err, caplog.text, server.requests[0].path]
    assert made.winner == 1 and "401" in seen[3]
    for text in seen:
        assert KEY not in text and KEY[3:] not in text
        assert "base64,i" not in text and "iVBORw0KGgo" not in text


def test_a_key_is_cut_off_nowhere_before_it_is_taken_out(monkeypatch):
    monkeypatch.setenv("EDITKIT_TEST_KEY", KEY)
    with serving(lambda r: (403, b"x" * 190 + KEY.encode(), {})) as server:
        made = decided(server.url, key_variable="EDITKIT_TEST_KEY")
    assert KEY[:6] not in str(made)


@pytest.mark.parametrize(
    ("variables", "name", "host", "given"),
    [
        ({"EDITKIT_KEY": " k "}, "EDITKIT_KEY", "a.org", "k"),
        ({"OPENAI_API_KEY": "k", "OPENAI_API_KEY_HOST": "api.openai.com"}, "OPENAI_API_KEY", "API.openai.com", "k"),
        ({}, "", "a.org", None),
    ],
)
def test_a_key_is_read_by_its_variables_name(monkeypatch, variables, name, host, given):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert key_of(name, host) == given


@pytest.mark.parametrize(
    ("variables", "name", "said"),
    [
        ({"HF_TOKEN": KEY}, "HF_TOKEN", "must begin with EDITKIT_"),
        ({"HF_TOKEN": KEY, "HF_TOKEN_HOST": "b.org"}, "HF_TOKEN", "is for the host 'b.org'"),
        ({"EDITKIT_KEY": KEY, "EDITKIT_KEY_HOST": "b.org"}, "EDITKIT_KEY", "is not sent to 'a.org'"),
        ({}, "EDITKIT_KEY", "EDITKIT_KEY holds no key"),
        ({"EDITKIT_KEY": "two\nlines"}, "EDITKIT_KEY", "holds no key"),
        ({}, KEY, "never the key itself"),
    ],
)
def test_a_key_that_may_not_be_sent_is_refused_without_telling_it(monkeypatch, variables, name, said):
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(EditError, match=said) as error:
        key_of(name, "a.org")
    assert KEY not in str(error.value)
    checked = NODES["EditKitICEditJudgeEndpoint"].VALIDATE_INPUTS("http://a.org", "m", name)
    assert checked == str(error.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "no address"), ("file:///etc/passwd", "no address"), ("ftp://a.org/v1", "no address"),
        ("http://", "no address"), ("a.org/v1", "no address"), ("http://a.org:99999/v1", "no address"),
        (f"https://me:{KEY}@a.org/v1", "holds a key"), (f"https://a.org/v1?api_key={KEY}", "holds a key"),
        (f"https://a.org/v1?access_token={KEY}", "holds a key"),
    ],
)  # fmt: skip
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url, said):
    with pytest.raises(EditError, match=said) as error:
        judge(url)
    assert KEY not in str(error.value)
    assert NODES["EditKitICEditJudgeEndpoint"].VALIDATE_INPUTS(url, "m", "") == str(error.value)


def test_an_empty_model_is_refused_and_linked_inputs_wait():
    with pytest.raises(EditError, match="model is empty"):
        judge("http://127.0.0.1:1", model=" ")
    assert NODES["EditKitICEditJudgeEndpoint"].VALIDATE_INPUTS(None, None, None) is True


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("http://a.org:8000/v1/", "http://a.org:8000/v1/chat/completions"),
        ("http://a.org", "http://a.org/v1/chat/completions"),
        ("https://a.org/x/chat/completions?api-version=2024-10-21", None),
    ],
)
def test_the_address_is_completed_where_it_is_short(url, asked):
    assert address(url) == (asked or url)


def test_a_key_that_is_gone_later_leaves_the_champion(monkeypatch):
    monkeypatch.setenv("EDITKIT_TEST_KEY", KEY)
    with serving(brighter) as server:
        one = judge(server.url, key_variable="EDITKIT_TEST_KEY")
        monkeypatch.delenv("EDITKIT_TEST_KEY")
        made = one.choose([grey(0.1), grey(0.9)], grey(0), "x", lambda *_: None)
        assert server.requests == []
    assert made.winner == 0 and "EDITKIT_TEST_KEY holds no key" in made.failures[0]


def test_exchanged_the_same_pair_is_sent_both_ways():
    with serving(brighter) as server:
        made = decided(server.url, [grey(0.2), grey(0.9)], swap_order=True)
    values = [[p.getpixel((0, 0))[0] for p in r.pictures] for r in server.requests]
    assert made.winner == 1 and values == [[51, 230, 26], [230, 51, 26]]


def score(edited, url, threshold=0.0, image=None, **changes):
    image = torch.full((1, 8, 8, 3), 0.1) if image is None else image
    return NODES["EditKitICEditVIEScore"]().run(
        judge=judge(url, **changes), image=image, edited=edited, instruction="make it bright", threshold=threshold
    )


def marks(request):
    """8 and 6 for success and restraint, and a quality that follows the brightness."""
    if len(request.pictures) == 2:
        return '{"score": [8, 6], "reasoning": "x"}'
    return json.dumps({"score": round(request.pictures[0].getpixel((0, 0))[0] / 25.5), "reasoning": ""})


def test_vie_score_of_several_edits_is_their_mean_and_each_is_told():
    edited = torch.stack([torch.full((8, 8, 3), v) for v in (0.6, 1.0)])
    with serving(marks) as server:
        sc, pq, overall, weighted, report = score(edited, server.url, 5.0)
    assert (sc, pq, weighted) == (6, 8, pytest.approx(0.8))
    assert overall == pytest.approx((6 + 60**0.5) / 2)
    assert "1: SC 6 (success 8, restraint 6), PQ 6, overall 6.00" in report and "2: SC 6" in report
    assert "a-model at 127.0.0.1" in report


def test_vie_score_leaves_out_what_has_no_marks_and_says_so():
    edited = torch.stack([torch.full((8, 8, 3), v) for v in (0.6, 1.0)])
    with serving(lambda r: "I like it" if r.number == 0 else marks(r)) as server:
        sc, pq, *_, report = score(edited, server.url)
    assert (sc, pq) == (6, 10) and "1: no marks. The judge's answer for SC" in report and "“I like it”" in report
    with serving(lambda r: (401, b"", {})) as server:
        sc, pq, overall, weighted, report = score(edited, server.url)
    assert sc != sc and overall != overall and weighted != weighted and pq != pq
    assert report.startswith("No edit has marks.") and "2: not asked" in report and len(server.requests) == 1


def test_a_failed_question_is_a_failure_of_its_own_kind():
    with serving(lambda r: (401, b"", {})) as server, pytest.raises(JudgeFailed) as failed:
        Endpoint(server.url, "m").ask("?", [grey(0)])
    assert failed.value.down
