"""Test that nothing a task, a worker or an address can say runs in a browser or breaks a page."""

import json
import time
from urllib.parse import urlencode

import pytest

from alligator import Gator
from alligator.backends.base import Message, Reason
from alligator.backends.store import Record, record_key
from alligator.backends.types import Report
from alligator.constants import FAILED
from alligator.monitoring import progress
from alligator.monitoring.attempts import Attempt, Told, merged
from alligator.monitoring.encoding import live_text, recent_text
from alligator.monitoring.rows import NowRow, RecentRow, WorkerRow
from alligator.web import Dashboard, Request
from alligator.web.access import allow_actions
from alligator.web.pages import PAGES
from tests.browser.conftest import NARROW
from tests.browser.test_pages import overflow

RUN = "window.hacked = 1; alert(1)"

#: Values of any field, each with the kind of attack.
ATTACKS = {
    "script": f"<script>{RUN}</script>",
    "closing": f"</title></textarea></style></script></pre></code><script>{RUN}</script>",
    "image": f'<img src=x onerror="{RUN}">',
    "quotes": f'"\' onmouseover="{RUN}" autofocus onfocus=\'{RUN}\' x="`',
    "url": f"javascript:{RUN}",
    "svg": f'<svg xmlns="http://www.w3.org/2000/svg" onload="{RUN}"><set onbegin="{RUN}"/></svg>',
    "form": '<form action="https://evil.example/"><button>Go</button></form>',
    "base": '<base href="//evil.example"><meta http-equiv="refresh" content="0;//a.example">',
    "style": "<style>*{display:none}</style><link rel=stylesheet href=//evil.example/x.css>",
    "template": "{{ view.gator.__class__ }} {% raw %} ${7*7} <%= 7*7 %>",
    "comment": "<!-- ]]> --!> <![CDATA[",
    "bidi": "\u202egnp.exe\u2066 \u200b\u200f\ufeff",
    "controls": "a\x1b[2J\x07\x7f\x85\r\nSet-Cookie: x=1\x0b\x00",
    "query": "&id=1#x?y=%3Cscript%3E%00%ff+/../../etc/passwd",
    "surrogate": "\ud800 lonely",
    "long": "W" * 100_000,
    "lines": "\n" * 50_000,
}

#: What in a document only an attack can have put there.
FOUND = r"""(page) => {
  const all = [...page.querySelectorAll('*')];
  const of = (name) => all.map(each => each.getAttribute(name)).filter(each => each !== null);
  return {
    scripts: of('src').filter(src => !/^\/at-\d+\/static\/[a-z]+\.(js|svg)\?\w+$/.test(src)),
    inline: [...page.scripts].filter(each => !each.src).length,
    handlers: all.flatMap(each => each.getAttributeNames()).filter(name => name.startsWith('on')),
    loads: page.querySelectorAll('style, base, iframe, object, embed, meta[http-equiv]').length,
    addresses: [...of('href'), ...of('action')].filter(each => !/^(\/at-\d|#\w)/.test(each)),
    // Written out, never as they came: they hide or turn text.
    unseen: page.documentElement.textContent.match(
      /[\u202e\u2066\u200b\u200f\ufeff\u0000-\u0008\u000b\u001b\u007f\u0085]/g),
    parts: ['body > header', 'body > main', 'body > footer']
      .map(each => page.querySelectorAll(each).length),
  };
}"""

#: What is found in a page that is whole.
WHOLE = {
    "scripts": [],
    "inline": 0,
    "handlers": [],
    "loads": 0,
    "addresses": [],
    "unseen": None,
    "parts": [1, 1, 1],
}


def message(task_id: str, value: str, **fields) -> Message:
    """Return a message in whose fields there is an attack."""
    options = {"headers": {"x": value, value[:60]: "y"}, "history": 3600.0, "last_error": value}
    found = {
        "task_id": task_id,
        "retries": 2,
        "is_async": True,
        "module": value,
        "callable": value,
        "args": [value, {value[:200]: [value]}],
        "kwargs": {value[:200]: value, "password": value},
        "options": options,
        **fields,
    }
    return Message(task_id, json.dumps(found))


@pytest.fixture(scope="package")
def hostile(site, tmp_path_factory):
    """A Gator whose queue and store are full of attacks, and where its dashboard is."""
    gator = Gator(f"sqlite://{tmp_path_factory.mktemp('hostile')}/queue.db", "mail")
    now = time.time()
    for name, value in ATTACKS.items():
        attack(gator, name, value, now)
    gator.client.push_many(
        "mail", [Message("no-json", f"<{RUN}>"), Message("bytes", b"\xff\x00<b>")]
    )
    for kind in ("name", "note"):
        gator.every(60, "shop.mail.remind", ATTACKS["image"], **{kind: ATTACKS["script"]})
    gator.schedules.fire()
    dashboard = Dashboard(gator, resolve_access=allow_actions)
    yield gator, dashboard, site.mount(dashboard)
    gator.close()


def attack(gator: Gator, name: str, value: str, now: float) -> None:
    """Put one value into each field of a task, a dead letter, a worker and a record."""
    client, store = gator.client, gator.store
    short = value[:300]
    own = value[:150] if name not in ("surrogate",) else "lonely"
    client.push_many("mail", [message(f"bury-{name}", value), message(f"run-{name}", value)])
    dead, runs = (
        client.reserve(["mail"], 1, 3600.0, task_id=f"{kind}-{name}").deliveries[0]
        for kind in ("bury", "run")
    )
    client.bury(dead, None, Reason(value[:2_000], f'File "{short}", line 1\n{value}'))
    client.push_many("mail", [message(f"wait-{name}", value), message(own, value)])
    delayed = message(f"delay-{name}", value)._replace(delay_until=now + 3600)
    client.push_many("mail", [delayed])
    record = Record(FAILED, error=value, traceback=value, at=now, attempt=1)
    store.note(record_key("mail", f"ended-{name}"), record, 3600)
    attempt = Attempt(1, now - 5, now - 4, short, short, value, value)
    told = Told(f"wait-{name}", value, "mail", value, value, now - 9, attempt, 0, value)
    running = NowRow(runs.task_id, short, "mail", 1, now - 3)
    worker = WorkerRow(short, 1, ("mail", short), 1, short, now - 9, now, 1, 1, (running,))
    recent = RecentRow(
        own, short, "mail", FAILED, 1, now - 9, now - 5, now - 4, short, value, value
    )
    documents = {
        f"history:{record_key('mail', f'wait-{name}')}": (merged(None, told), 3600.0),
        progress.document_key(record_key("mail", runs.task_id)): (
            progress.to_text(0.5, value),
            3600.0,
        ),
    }
    minute = int(now // 60) * 60
    report = Report(
        f"worker-{name}",
        live_text(worker),
        3600.0,
        activity=[(minute, "mail", short, (1.0, 1.0))],
        recent=[recent_text(recent)],
        documents=documents,
    )
    store.report(report)


def asked(name: str) -> list[tuple[str, dict[str, str]]]:
    """Return pages with the queries by which they show an attack, or are attacked themselves."""
    value = ATTACKS[name][:2_000]
    kinds = ("bury", "run", "wait", "delay", "ended")
    found = [("task", {"queue": "mail", "id": f"{kind}-{name}"}) for kind in kinds]
    found += [("task", {"queue": "mail", "id": value}), ("task", {"queue": value, "id": value})]
    found += [("search", {"q": value}), ("queue", {"name": value})]
    for field in ("state", "after", "function", "text", "age", "sort"):
        found += [("queue", {"name": "mail", field: value}), ("recent", {field: value})]
    found += [("dead", {"error": value, "queue": value}), ("activity", {"minutes": value})]
    found += [("do/pause", {"queue": value, "back": value}), (value, {})]
    return found


def check(page, at: str) -> None:
    """Check that attacks did nothing to a page that is open."""
    assert page.evaluate("window.hacked") is None, at
    assert page.evaluate(f"({FOUND})(document)") == WHOLE, at
    assert overflow(page) <= 0, at


def test_a_page_with_all_attacks_stays_whole(hostile, opened):
    """Each page in turn, in one tab: to open another takes as long as the page."""
    _, _, url = hostile
    query = {"queue": "name=mail", "task": "queue=mail&id=bury-script", "search": "q=mail"}
    page = opened(viewport=NARROW)
    for path in PAGES:
        page.goto(f"{url}/{path}?{query.get(path, '')}")
        assert page.title().endswith("Alligator"), path
        check(page, path)


def test_a_task_that_attacks_runs_nothing(hostile, opened):
    _, _, url = hostile
    page = opened(viewport=NARROW)
    for name in ATTACKS:
        page.goto(f"{url}/task?queue=mail&id=bury-{name}")
        check(page, name)
        assert len(page.content()) < 500_000, name


def test_no_page_takes_an_attack_for_markup(hostile, opened):
    """Have the browser read all of them, which takes much less time than to open each."""
    _, dashboard, _ = hostile
    page = opened("about:blank")
    read = f"""html => html.map(
        each => ({FOUND})(new DOMParser().parseFromString(each, 'text/html')))"""
    for name in ATTACKS:
        requests = [
            Request("GET", f"/{path}", urlencode(query, errors="replace"), {}, root="/at-0")
            for path, query in asked(name)
        ]
        answers = [dashboard.handle(each) for each in requests]
        found = page.evaluate(read, [each.body.decode() for each in answers])
        for request, answer, each in zip(requests, answers, found, strict=True):
            at = f"{request.path[:200]} {request.query_string[:200]}"
            assert answer.status < 500, at
            assert len(answer.body) < 500_000, at
            assert each == WHOLE, at
