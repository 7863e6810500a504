// Orders from the OpenAI API at the URL in argv, with the images given as base64 on standard input,
// and prints what OpenAI's own node SDK parsed from each response as one JSON object.
import OpenAI, { toFile } from "openai";

const model = "gpt-image-2";
const client = new OpenAI({ baseURL: process.argv[2], apiKey: "sk-sandbox", maxRetries: 0 });

async function readInputImages() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const inputImages = JSON.parse(Buffer.concat(chunks).toString());
  const file = ([name, base64]) => toFile(Buffer.from(base64, "base64"), `${name}.bin`);
  return Object.fromEntries(
    await Promise.all(Object.entries(inputImages).map(async (entry) => [entry[0], await file(entry)])),
  );
}

async function collectEvents(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}

async function catchError(call) {
  try {
    await call();
  } catch (error) {
    const { status, code, param, type, requestID } = error;
    return { kind: error.constructor.name, status, code, param, type, requestID };
  }
  return null;
}

const { first, second, mask } = await readInputImages();
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
  stream: await collectEvents(
    await client.images.generate({ model, prompt: "a lighthouse", stream: true, partial_images: 2 }),
  ),
  streamed_edit: await collectEvents(await client.images.edit({ model, prompt: "night", image: first, stream: true })),
  models: (await client.models.list()).data.map((model) => model.id),
  wrong_size: await catchError(() => client.images.generate({ model, prompt: "a lighthouse", size: "17x17" })),
  wrong_model: await catchError(() => client.models.retrieve("no/such")),
  wrong_key: await catchError(() => client.withOptions({ apiKey: "sk-other" }).models.list()),
};
console.log(JSON.stringify(results));
