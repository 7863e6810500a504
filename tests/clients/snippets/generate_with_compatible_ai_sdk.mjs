import { writeFileSync } from "node:fs";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage } from "ai";

const gateway = createOpenAICompatible({ name: "igw", baseURL: "http://127.0.0.1:8080/v1", apiKey: "igw_sandbox" });
const { image } = await generateImage({
  model: gateway.imageModel("gpt-image-2"),
  prompt: "a lighthouse at dawn",
  providerOptions: { igw: { quality: "low", max_cost: "0.20" } },
});
writeFileSync("image.png", image.uint8Array);
