"""OpenAI's Python SDK with its defaults: reads an order per line of standard input, writes a status per line."""

import json
import sys

import openai

for line in sys.stdin:
    order = json.loads(line)
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(base_url=f"{order['url']}/v1", api_key=order["key"], http_client=http) as client:
        try:
            client.images.generate(prompt=order["prompt"], extra_body=order["more"])
            status = 200
        except openai.APIStatusError as error:
            status = error.status_code
        except openai.APIConnectionError:
            status = 0
    print(json.dumps({"status": status}), flush=True)
