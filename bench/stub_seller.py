"""A synchronous seller that costs nearly nothing: nginx answers every order with the same small PNG as base64."""

import base64
from pathlib import Path

from tests.harness.sample_images import make_image

NGINX_CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
    # The gateway also checks its key, with a GET.
    map $request_method $is_order {{ POST 1; default 0; }}
    log_format order $status;
    access_log {folder}/orders.log order if=$is_order;
    keepalive_requests 1000000000;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    default_type application/json;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 200 '{response}'; }}
    }}
}}
"""


def write_nginx_config(folder: Path, port: int) -> Path:
    """Writes the configuration. A line of `orders.log` in the folder will stand for each order."""
    image = base64.b64encode(make_image(1024, 1024, mode="1")).decode()
    response = f'{{"created":1,"data":[{{"b64_json":"{image}"}}]}}'
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(folder=folder, port=port, response=response))
    return config


def count_orders(folder: Path) -> int:
    return (folder / "orders.log").read_bytes().count(b"\n")
