// OpenAI's node SDK with its defaults: reads one order per line from standard input, prints one status for each.
import { createInterface } from "node:readline";
import OpenAI from "openai";

for await (const line of createInterface({ input: process.stdin })) {
  const { url, key, prompt, more } = JSON.parse(line);
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: key });
  let status = 200;
  try {
    await client.images.generate({ prompt, ...more });
  } catch (error) {
    status = error.status ?? 0;
  }
  console.log(JSON.stringify({ status }));
}
