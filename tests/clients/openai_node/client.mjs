// Buys from the OpenAI API at the address in argv, with the pictures given as base64 on standard input,
// and prints what OpenAI's own node SDK made of every answer as one JSON object.
import OpenAI, { toFile } from "openai";

const model = "gpt-image-2";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "sk-sandbox", maxRetries: 0 });

async function given() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const pictures = JSON.parse(Buffer.concat(chunks).toString());
  const file = ([name, base64]) => toFile(Buffer.from(base64, "base64"), `${name}.bin`);
  return Object.fromEntries(
    await Promise.all(Object.entries(pictures).map(async (entry) => [entry[0], await file(entry)])),
  );
}

async function collected(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

async function raised(call) {
  try {
    await call();
  } catch (error) {
    const { status, code, param, type, requestID } = error;
    return { kind: error.constructor.name, status, code, param, type, requestID };
  }
  return null;
}

const { first, second, mask } = await given();
const generated = await client.images.generate({
  model,
  prompt: "a lighthouse",
  size: "1536x864",
  n: 2,
  quality: "low",
});
const results = {
  // The SDK hides the id from JSON.
  request_id: generated._request_id,
  generate: generated,
  edit: await client.images.edit({ model, prompt: "night", image: [first, second], mask, n: 1, output_format: "webp" }),
  stream: await collected(
    await client.images.generate({ model, prompt: "a lighthouse", stream: true, partial_images: 2 }),
  ),
  streamed_edit: await collected(await client.images.edit({ model, prompt: "night", image: first, stream: true })),
  models: (await client.models.list()).data.map((found) => found.id),
  wrong_size: await raised(() => client.images.generate({ model, prompt: "a lighthouse", size: "17x17" })),
  wrong_model: await raised(() => client.models.retrieve("no/such")),
  wrong_key: await raised(() => client.withOptions({ apiKey: "sk-other" }).models.list()),
};
console.log(JSON.stringify(results));
