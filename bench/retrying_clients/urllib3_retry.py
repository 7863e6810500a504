"""urllib3 with the most common Retry configuration: three retries of any method, for 429 and 5xx."""

import json
import sys

import urllib3

RETRY = urllib3.Retry(
    total=3, backoff_factor=0.2, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None, raise_on_status=False
)

with urllib3.PoolManager(retries=RETRY) as http:
    for line in sys.stdin:
        order = json.loads(line)
        body = {"prompt": order["prompt"], **order["more"]}
        headers = {"authorization": f"Bearer {order['key']}"}
        try:
            status = http.request("POST", f"{order['url']}/v1/images/generations", json=body, headers=headers).status
        except urllib3.exceptions.HTTPError:
            status = 0
        print(json.dumps({"status": status}), flush=True)
