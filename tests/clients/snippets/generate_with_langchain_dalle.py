from pathlib import Path

import httpx
from langchain_community.utilities.dalle_image_generator import DallEAPIWrapper

wrapper = DallEAPIWrapper(base_url="http://127.0.0.1:8080/v1", api_key="igw_sandbox", model="dall-e-3")
Path("image.png").write_bytes(httpx.get(wrapper.run("a lighthouse at dawn")).content)
