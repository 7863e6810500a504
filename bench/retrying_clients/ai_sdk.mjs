// Vercel's AI SDK with its defaults: reads an order per line of standard input, writes a status per line.
import { createInterface } from "node:readline";
import { createOpenAI } from "@ai-sdk/openai";
import * as ai from "ai";

const generateImage = ai.generateImage ?? ai.experimental_generateImage;

for await (const line of createInterface({ input: process.stdin })) {
  const { url, key, prompt, more } = JSON.parse(line);
  // The SDK drops unknown fields, so they are added to the request body here.
  const widened = (address, init) => fetch(address, { ...init, body: JSON.stringify({ ...JSON.parse(init.body), ...more }) });
  const model = createOpenAI({ baseURL: `${url}/v1`, apiKey: key, fetch: widened }).image("gpt-image-2");
  let status = 200;
  try {
    await generateImage({ model, prompt });
  } catch (error) {
    status = (error.lastError ?? error).statusCode ?? 0;
  }
  console.log(JSON.stringify({ status }));
}
