import base64
from pathlib import Path

from langchain_openai import ChatOpenAI

chat = ChatOpenAI(
    model="gpt-5", base_url="http://127.0.0.1:8080/v1", api_key="igw_sandbox", use_responses_api=True
).bind_tools([{"type": "image_generation", "quality": "low"}])
[image] = [block for block in chat.invoke("a lighthouse at dawn").content_blocks if block["type"] == "image"]
Path("image.png").write_bytes(base64.b64decode(image["base64"]))
