"""Calls an AWS interface as users do, with an unmodified boto3: reads {"endpoint", "calls"} from standard input and
writes a list of outcomes, {"answer"} or {"error", "code", "status", "message", "request_id"}. Times are in milliseconds;
boto3 sends whole seconds of them."""

import datetime
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import boto3
import botocore.auth
from botocore.config import Config
from botocore.exceptions import ClientError


def plain(value):
    """What JSON can say: instants as milliseconds."""
    if isinstance(value, datetime.datetime):
        return round(value.timestamp() * 1000)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items() if name != "ResponseMetadata"}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def client(endpoint, call, made={}):
    """Making one takes a quarter of a second."""
    settings = {
        "endpoint_url": call.get("endpoint", endpoint),
        "region_name": call.get("region", "eu-central-1"),
        "aws_access_key_id": call["key"],
        "aws_secret_access_key": call["secret"],
        "aws_session_token": call.get("session_token"),
    }
    key = (call["service"], *settings.values())
    if key not in made:
        config = Config(retries={"total_max_attempts": 1}, max_pool_connections=64)
        made[key] = boto3.session.Session().client(call["service"], config=config, **settings)
    return made[key]


def instants(arguments):
    """Milliseconds as boto3 takes them."""
    names = ("StartTimestamp", "EndTimestamp")
    at = lambda ms: datetime.datetime.fromtimestamp(ms / 1000, datetime.timezone.utc)
    return {name: at(value) if name in names else value for name, value in arguments.items()}


def ask(made, call):
    arguments = instants(call["arguments"])
    try:
        if call.get("paginate"):
            pages = made.get_paginator(call["operation"]).paginate(**arguments)
            return {"answer": [plain(page) for page in pages]}
        return {"answer": plain(getattr(made, call["operation"])(**arguments))}
    except ClientError as error:
        return {
            "error": type(error).__name__,
            "code": error.response["Error"]["Code"],
            "message": error.response["Error"]["Message"],
            "status": error.response["ResponseMetadata"]["HTTPStatusCode"],
            "request_id": error.response["ResponseMetadata"].get("RequestId"),
        }


def main():
    asked = json.load(sys.stdin)
    if skew := asked.get("skew_s"):
        now = botocore.auth.get_current_datetime
        botocore.auth.get_current_datetime = lambda *args, **kw: now(*args, **kw) + datetime.timedelta(seconds=skew)
    made = [(client(asked["endpoint"], call), call) for call in asked["calls"]]
    with ThreadPoolExecutor(asked.get("at_once", 1)) as pool:
        outcomes = list(pool.map(lambda pair: ask(*pair), made))
    json.dump(outcomes, sys.stdout)


main()
