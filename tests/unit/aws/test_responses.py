"""Answers of a table are told from those of something else."""

from __future__ import annotations

from typing import Any

import pytest

from limiter import RateLimiterUnavailable
from limiter.aws.responses import check_answer

UPDATE = {"ExpressionAttributeValues": {":w": {"S": "me1"}}}
READ = {"RequestItems": {"my-app": {}}}


@pytest.mark.parametrize(
    ("action", "parameters", "answer"),
    [
        ("UpdateItem", UPDATE, {"Attributes": {"w": {"S": "me1"}}}),
        ("BatchGetItem", READ, {"Responses": {"my-app": [{}]}, "UnprocessedKeys": {}}),
        ("BatchGetItem", READ, {"Responses": {}}),
        ("BatchGetItem", READ, {"Responses": {}, "UnprocessedKeys": {"my-app": {"Keys": [{}]}}}),
        ("BatchWriteItem", {}, {"UnprocessedItems": {"my-app": [{"DeleteRequest": {"Key": {}}}]}}),
        ("GetItem", {}, {}),
        ("GetItem", {}, {"Item": {}}),
        ("Query", {}, {"Items": []}),
        ("Scan", {}, {"Items": [{}], "LastEvaluatedKey": {}}),
        ("BatchWriteItem", {}, {}),
        ("PutItem", {}, {}),
    ],
)
def test_what_a_table_answers_is_taken(action: str, parameters: Any, answer: Any) -> None:
    """Every form of a right answer passes."""
    check_answer(action, parameters, answer)


@pytest.mark.parametrize(
    ("action", "parameters", "answer"),
    [
        ("UpdateItem", UPDATE, {}),
        ("UpdateItem", UPDATE, {"Attributes": {}}),
        ("UpdateItem", UPDATE, {"Attributes": {"w": {"S": "me2"}}}),
        ("UpdateItem", UPDATE, {"Attributes": "w"}),
        ("BatchGetItem", READ, {}),
        ("BatchGetItem", READ, {"Responses": {"my-app": [1]}}),
        ("BatchGetItem", READ, {"Responses": {"my-app": []}, "UnprocessedKeys": [1]}),
        ("GetItem", {}, {"Item": 1}),
        ("GetItem", {}, None),
        ("Query", {}, {}),
        ("Scan", {}, {"Items": {}}),
        ("BatchGetItem", READ, {"Responses": {"my-app": []}, "UnprocessedKeys": {"my-app": None}}),
        ("BatchGetItem", READ, {"Responses": {"my-app": []}, "UnprocessedKeys": {"my-app": {"Keys": [1]}}}),
        ("BatchWriteItem", {}, {"UnprocessedItems": 1}),
        ("BatchWriteItem", {}, {"UnprocessedItems": {"my-app": None}}),
        ("BatchWriteItem", {}, {"UnprocessedItems": {"my-app": [{"DeleteRequest": None}]}}),
    ],
)
def test_what_no_table_answers_counts_as_an_outage(action: str, parameters: Any, answer: Any) -> None:
    """An update is believed only with its own stamp; what became of the request is not known."""
    with pytest.raises(RateLimiterUnavailable, match="no table") as caught:
        check_answer(action, parameters, answer)
    assert not caught.value.unsent
