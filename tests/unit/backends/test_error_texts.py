"""Test that an error which quotes another ends in exactly one full stop."""

import botocore.exceptions
import pytest
import redis.exceptions

from alligator import Gator, utils
from alligator.backends.redis import errors as redis_errors
from alligator.backends.sqlite.database import Database
from alligator.backends.sqs import config as sqs_config
from alligator.backends.sqs import errors as sqs_errors
from alligator.common.clock import SystemClock
from alligator.common.text import with_stop
from alligator.exceptions import AlligatorException, ConnectionLost, ImportFailed


@pytest.mark.parametrize(
    ("text", "ended"),
    [("no", "no."), ("no.", "no."), ("no!", "no!"), ("why?", "why?"), ("cut…", "cut…"), ("", ".")],
)
def test_one_stop(text, ended):
    assert with_stop(text) == ended


@pytest.mark.parametrize("said", ["Connection refused.", "Connection refused"])
@pytest.mark.parametrize(
    "kind",
    [
        redis.exceptions.ConnectionError,
        redis.exceptions.AuthenticationError,
        redis.exceptions.ResponseError,
        redis.exceptions.BusyLoadingError,
    ],
)
def test_redis(kind, said):
    text = str(redis_errors.translate(kind(said)))
    assert text.endswith(f"{kind.__name__}: Connection refused.")


def test_a_redis_that_is_out_of_reach():
    with pytest.raises(ConnectionLost) as raised:
        Gator("redis://127.0.0.1:1/").len()
    assert str(raised.value).endswith("refused.")


def test_sqlite(tmp_path):
    file = Database(tmp_path / "q.db", "NORMAL", SystemClock())
    for err in (OSError("no."), OverflowError("no."), OSError(28, "no.")):
        assert str(file._translated(err)).endswith("no.")
        assert not str(file._translated(err)).endswith("..")


@pytest.mark.parametrize("operation", ["SendMessage", "DeleteMessage"])
@pytest.mark.parametrize("code", ["AccessDenied", "InvalidMessageContents", "Throttled"])
def test_sqs(code, operation):
    answer = {"Error": {"Code": code, "Message": "You may not."}}
    err = botocore.exceptions.ClientError(answer, operation)
    address = sqs_config.parse_address("sqs://us-west-2/")
    stop = pytest.raises(AlligatorException, match=r"You may not\)\.")
    with stop as raised, sqs_errors.translated("all", address):
        raise err
    assert ".." not in str(raised.value)
    assert str(sqs_errors.failure(answer["Error"])).endswith("You may not).")


def test_a_module_whose_error_ends_in_a_stop(tmp_path, monkeypatch):
    raises = "raise RuntimeError('It is not set up.')\n"
    (tmp_path / "full_stop.py").write_text(raises)
    (tmp_path / "lazy_stop.py").write_text(f"def __getattr__(name):\n    {raises}")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportFailed, match=r"RuntimeError: It is not set up\.$"):
        utils.import_module("full_stop")
    with pytest.raises(ImportFailed, match=r"RuntimeError: It is not set up\.$"):
        utils.import_attr("lazy_stop", "any")
