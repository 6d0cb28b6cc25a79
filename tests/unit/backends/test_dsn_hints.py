"""Test errors for DSN parameters of other libraries: they name Alligator's parameter."""

import pytest

from alligator import Gator
from alligator.exceptions import InvalidDSN


@pytest.mark.parametrize(
    ("dsn", "hint"),
    [
        ("redis://localhost/?db=3", "redis://host:6379/3"),
        ("redis://localhost?virtual_host=/4", "redis://host:6379/4"),
        ("redis://localhost/?db=first", "redis://host:6379/0"),
        ("redis+sentinel://a,b/mymaster?db=3", "redis+sentinel://host:26379/mymaster/3"),
        ("redis+cluster://a,b?db=3", "a cluster has only database 0"),
        ("redis+unix:///run/redis.sock?database=2", "?db=2"),
        ("rediss://localhost/?ssl_cert_reqs=none", "ssl_verify=false"),
        ("redis://localhost/?ssl_cert_reqs=CERT_REQUIRED", "Write rediss://"),
        ("redis://localhost/?ssl=true", "Write rediss://"),
        ("redis://localhost/?ssl_ca_certs=/ca.pem", "Write rediss://"),
        ("redis://localhost/?socket_timeout=3", "timeout=10 (seconds)"),
        ("redis://localhost/?socket_connect_timeout=3", "connect_timeout=5 (seconds)"),
        ("redis://localhost/?password=secret", "user:password@host"),
        ("redis://localhost/?master_name=mymaster", "redis+sentinel://host:26379/mymaster/0"),
        ("redis://localhost/?max_connections=5", "Leave it out"),
        ("redis://localhost/?visibility_timeout=5", "--lease"),
        ("redis://localhost/?timeuot=5", "Did you mean 'timeout'?"),
        ("beanstalk://localhost/?timeout=5", "Leave it out"),
        ("beanstalk://localhost/?lease=5", "ttr=30"),
        ("beanstalk://localhost/?tube=mail", "queue_name='mail'"),
        ("sqlite://q.db?timeout=5", "Leave it out"),
        ("sqlite://q.db?mode=rwc", "Leave it out"),
        ("sqlite://q.db?_sync=2", "synchronous=FULL"),
        ("sqlite://q.db?sychronous=FULL", "Did you mean 'synchronous'?"),
        ("sqs://?region=us-west-2", "sqs://us-west-2/"),
        ("sqs://us-west-2/?endpoint=http://localhost", "endpoint_url="),
        ("sqs://us-west-2/?aws_access_key_id=x", "boto3's own chain"),
        ("sqs://us-west-2/?visibility_timeout=5", "--lease"),
    ],
)
def test_the_nearest_right_form_is_said(dsn, hint):
    with pytest.raises(InvalidDSN) as caught:
        Gator(dsn)
    said = str(caught.value)
    assert hint in said
    assert "known here: " in said
    assert "secret" not in said


def test_an_unknown_parameter_without_a_hint():
    with pytest.raises(InvalidDSN, match=r"'colour'; known here: [a-z_, ]+\.$"):
        Gator("redis://localhost/?colour=red")
