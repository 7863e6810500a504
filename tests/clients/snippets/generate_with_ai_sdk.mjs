import { writeFileSync } from "node:fs";
import { createOpenAI } from "@ai-sdk/openai";
import { generateImage } from "ai";

const gateway = createOpenAI({ baseURL: "http://127.0.0.1:8080/v1", apiKey: "igw_sandbox" });
const { image } = await generateImage({ model: gateway.image("gpt-image-2"), prompt: "a lighthouse at dawn" });
writeFileSync("image.png", image.uint8Array);
