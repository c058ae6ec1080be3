"""One form of HTTP is read, in pieces of any size, and every other form is refused."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from limiter.aws.wire import MAX_BODY, MAX_HEAD, Response, ResponseReader, UnexpectedForm, encoded, parsed

BODY = b'{"Item":{"pk":{"S":"a"}}}'
HEADERS = [
    b"Server: Server",
    b"Date: Fri, 27 Nov 2026 10:00:00 GMT",
    b"Content-Type: application/x-amz-json-1.0",
    b"Content-Length: %d" % len(BODY),
    b"Connection: keep-alive",
    b"x-amzn-RequestId: ABC",
    b"x-amz-crc32: 2745614147",
]


def raw(*headers: bytes, status: bytes = b"HTTP/1.1 200 OK", body: bytes = BODY) -> bytes:
    """A response as it comes over the wire."""
    return b"\r\n".join([status, *headers, b"", body])


def without(name: bytes) -> list[bytes]:
    """The headers but for one."""
    return [header for header in HEADERS if not header.startswith(name)]


WHOLE = raw(*HEADERS)


@given(st.lists(st.integers(1, len(WHOLE) - 1), unique=True))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    """However a response is cut, it is whole with its last byte and not before."""
    reader, places = ResponseReader(), [0, *sorted(cuts), len(WHOLE)]
    found = [reader.feed(WHOLE[start:end]) for start, end in pairwise(places)]
    assert found[:-1] == [None] * (len(found) - 1)
    response = found[-1]
    assert response is not None
    assert (response.status, response.body, response.closes) == (200, BODY, False)
    assert response.headers["x-amzn-requestid"] == "ABC"
    assert response.headers["date"] == "Fri, 27 Nov 2026 10:00:00 GMT"


FOREIGN = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "HTTP/1.0": raw(*HEADERS, status=b"HTTP/1.0 200 OK"),
    "HTTP/2": raw(*HEADERS, status=b"HTTP/2 200"),
    "informational": raw(*HEADERS, status=b"HTTP/1.1 100 Continue"),
    "status 600": raw(*HEADERS, status=b"HTTP/1.1 600 Odd"),
    "status of four digits": raw(*HEADERS, status=b"HTTP/1.1 2000 OK"),
    "blank before the status": b"\r\n" + WHOLE,
    "no length": raw(*without(b"Content-Length")),
    "two lengths": raw(*HEADERS, b"Content-Length: 25"),
    "signed length": raw(*without(b"Content-Length"), b"Content-Length: +25"),
    "length in other digits": raw(*without(b"Content-Length"), "Content-Length: ²".encode("latin-1")),
    "enormous length": raw(*without(b"Content-Length"), b"Content-Length: %d" % (MAX_BODY + 1)),
    "chunked": raw(*without(b"Content-Length"), b"Transfer-Encoding: chunked"),
    "chunked with a length": raw(*HEADERS, b"Transfer-Encoding: chunked"),
    "compressed": raw(*HEADERS, b"Content-Encoding: gzip"),
    "folded header": raw(*HEADERS, b" folded: yes"),
    "blank before the colon": raw(*HEADERS, b"Content-Length : 25"),
    "no colon": raw(*HEADERS, b"nonsense"),
    "no name": raw(*HEADERS, b": nonsense"),
    "bare line feed": raw(*HEADERS, b"A: b\nContent-Length: 1"),
    "bare carriage return": raw(*HEADERS, b"A: b\rContent-Length: 1"),
    "bytes behind the end": WHOLE + b"x",
    "headers without an end": b"HTTP/1.1 200 OK\r\nA: " + b"x" * MAX_HEAD,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_form_is_refused(name: str) -> None:
    """Also one that is cut into single bytes, and before anything of it is believed."""
    with pytest.raises(UnexpectedForm):
        ResponseReader().feed(FOREIGN[name])
    reader = ResponseReader()
    with pytest.raises(UnexpectedForm):
        for byte in FOREIGN[name]:
            assert reader.feed(bytes([byte])) is None or name == "bytes behind the end"


@given(st.binary())
def test_any_bytes_are_a_response_or_are_refused(data: bytes) -> None:
    """Nothing that arrives raises another error."""
    with suppress(UnexpectedForm):
        ResponseReader().feed(data)


def test_a_server_that_closes_says_so() -> None:
    """The connection is not used again behind such a response."""
    response = ResponseReader().feed(raw(*without(b"Connection"), b"Connection: Close"))
    assert response is not None
    assert response.closes


def test_a_response_is_what_botocore_returns() -> None:
    """The members of the body, and the metadata that the limiter reads."""
    found = parsed("GetItem", Response(200, {"date": "now", "x-amzn-requestid": "ABC"}, BODY))
    metadata = found.pop("ResponseMetadata")
    assert found == {"Item": {"pk": {"S": "a"}}}
    assert (metadata["HTTPStatusCode"], metadata["HTTPHeaders"]["date"], metadata["RequestId"]) == (200, "now", "ABC")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"__type":"com.amazonaws.dynamodb.v20120810#Failed","message":"no"}', "Failed", "no"),
        (b'{"__type":"Failed:http://internal.amazon.com/","Message":"no"}', "Failed", "no"),
        (b'{"__type":5,"message":5}', "5", ""),
        (b'{"__type":null,"message":null}', "", ""),
        (b"{}", "400", ""),
        (b"<html>", "400", "<html>"),
        (b"", "400", ""),
        (b"[1]", "400", "[1]"),
    ],
)
def test_an_error_is_what_botocore_raises(body: bytes, code: str, message: str) -> None:
    """It has the code and the message, or the status where the body is not DynamoDB's, and the other members beside them."""
    with pytest.raises(ClientError) as raised:
        parsed("UpdateItem", Response(400, {}, body))
    assert raised.value.operation_name == "UpdateItem"
    assert raised.value.response["Error"] == {"Code": code, "Message": message}
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_failed_condition_has_the_item() -> None:
    """What stood in the table comes with the error."""
    body = b'{"__type":"x#ConditionalCheckFailedException","message":"no","Item":{"pk":{"S":"a"}}}'
    with pytest.raises(ClientError) as raised:
        parsed("UpdateItem", Response(400, {}, body))
    assert raised.value.response["Item"] == {"pk": {"S": "a"}}


@pytest.mark.parametrize("member", ['"Item":7', '"throttlingReasons":5', '"ThrottlingReasons":[5]'])
def test_an_error_with_members_of_other_types_is_none(member: str) -> None:
    """A response that is not a table's is not believed, even with a valid body."""
    with pytest.raises(ValueError, match="of other types"):
        parsed("UpdateItem", Response(400, {}, f'{{"__type":"x#ThrottlingException",{member}}}'.encode()))


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"\xff", b'{"M":' * 100_000])
def test_a_success_without_an_object_is_none(body: bytes) -> None:
    """What no table returns raises `ValueError`."""
    with pytest.raises(ValueError, match="not a JSON object"):
        parsed("GetItem", Response(200, {}, body))


@pytest.mark.parametrize("value", ["token\r\nhost: elsewhere", "token\n", "\rtoken"])
def test_no_value_begins_another_header(value: str) -> None:
    """A request whose header holds the end of a line is not made."""
    with pytest.raises(ValueError, match="end of a line"):
        encoded("POST", "/", {"host": "localhost", "x-amz-security-token": value}, b"{}")
