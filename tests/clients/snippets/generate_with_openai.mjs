import { writeFileSync } from "node:fs";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: "http://127.0.0.1:8080/v1", apiKey: "igw_sandbox" });
const answer = await client.images.generate({ model: "gpt-image-2", prompt: "a lighthouse at dawn" });
writeFileSync("image.png", Buffer.from(answer.data[0].b64_json, "base64"));
