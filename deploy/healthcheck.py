"""Checks the health of the gateway in this container, since the image has no curl.

    python healthcheck.py /livez     exit code 0 if the gateway answers with 200, else 1

It waits 4 seconds at most.
"""

import http.client
import os
import sys

TIMEOUT_SECONDS = 4


def main(path: str) -> int:
    port = int(os.environ.get("IGW_PORT") or 8080)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"GET {path} on port {port} failed: {error}\n")
        return 1
    sys.stdout.write(f"{response.status} {response.read(1_000).decode(errors='replace')}\n")
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
