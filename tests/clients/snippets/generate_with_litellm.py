import base64
from pathlib import Path

import litellm

gateway = {"api_base": "http://127.0.0.1:8080/v1", "api_key": "igw_sandbox", "extra_body": {"max_cost": "0.20"}}
answer = litellm.image_generation(model="openai/gpt-image-2", prompt="a lighthouse at dawn", **gateway)
Path("image.png").write_bytes(base64.b64decode(answer.data[0].b64_json))
