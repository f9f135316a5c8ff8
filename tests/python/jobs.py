"""Posts jobs as users do, with requests: reads {"calls": [{"url", "key", "json" or "data", "headers"}], "at_once"} from
standard input and writes a list of {"status", "body", "headers"}."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import requests


def ask(call):
    headers = dict(call.get("headers", {}))
    if "key" in call:
        headers["X-API-Key"] = call["key"]
    sent = {"json": call["json"]} if "json" in call else {"data": call.get("data", "")}
    answer = requests.post(call["url"], headers=headers, timeout=50, **sent)
    try:
        body = answer.json()
    except ValueError:
        body = answer.text
    return {"status": answer.status_code, "body": body, "headers": {k.lower(): v for k, v in answer.headers.items()}}


def main():
    asked = json.load(sys.stdin)
    with ThreadPoolExecutor(asked.get("at_once", 1)) as pool:
        json.dump(list(pool.map(ask, asked["calls"])), sys.stdout)


main()
