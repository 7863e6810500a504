import base64
from pathlib import Path

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="igw_sandbox")
answer = client.images.generate(model="gpt-image-2", prompt="a lighthouse at dawn", extra_body={"max_cost": "0.20"})
Path("image.png").write_bytes(base64.b64decode(answer.data[0].b64_json))
