// Streams an order that fails, and prints the error that OpenAI's node SDK throws as one JSON object.
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "igw_sandbox" });
const order = { model: "gpt-image-2", prompt: "a lighthouse", stream: true, provider: { only: ["runapi"] } };
const { data: stream, response } = await client.images.generate(order).withResponse();
const events = [];
let thrown = null;
try {
  for await (const event of stream) events.push(event);
} catch (error) {
  thrown = { kind: error.constructor.name, code: error.code, type: error.type, message: error.message };
}
console.log(JSON.stringify({ status: response.status, events, thrown }));
